package control

import (
	"maps"
	"slices"
	"time"

	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/cluster"
	"howdah/exposition"
)

// A Sighting is what one look at a cluster found.
type Sighting struct {
	Cluster string
	Status  Status
	VIP     bool                 // the cluster has a virtual address
	Until   map[string]time.Time // how long the certificates last that members show
	Err     error                // the store did not answer: nothing else is known
}

// Metrics tells what `status` shows of clusters in Prometheus's text format. What
// was not seen has no series, but for that itself.
func Metrics(all []Sighting) []byte {
	var e exposition.Text
	for _, s := range all {
		e.Gauge("howdah_cluster_seen", "Value is 1 if the cluster's store answered, 0 otherwise.", exposition.Truth(s.Err == nil), "cls", s.Cluster)
		if s.Err == nil {
			tell(&e, s)
		}
	}
	return e.Bytes()
}

func tell(e *exposition.Text, s Sighting) {
	truth := exposition.Truth
	cls, st, p := s.Cluster, s.Status, s.Status.Picture
	gauge := func(name, help string, value float64, labels ...string) {
		e.Gauge(name, help, value, append([]string{"cls", cls}, labels...)...)
	}
	gauge("howdah_cluster_leader", "Value is 1 if somebody holds the leader key, 0 otherwise.", truth(p.Leader != ""))
	gauge("howdah_cluster_paused", "Value is 1 if automatic failover is paused, 0 otherwise.", truth(p.Paused))
	gauge("howdah_cluster_survives", "Hosts that may be lost with someone left to lead.", float64(st.Survives))
	gauge("howdah_cluster_timeline", "Timeline of the leader.", float64(p.Timeline))
	if st.Exposure != nil {
		gauge("howdah_cluster_exposure_bytes", "Bytes of WAL that would be lost with the leader's host.", float64(*st.Exposure))
	}
	gauge("howdah_cluster_exposure_limit_bytes", "Bytes of WAL by which a member may lag and still be promoted (maximum_lag_on_failover).", float64(st.State.Config.MaximumLagOnFailover()))
	if c := st.Commits; c != nil {
		gauge("howdah_cluster_commit_voters", "Standbys for which commits may wait.", float64(len(c.Voters)))
		gauge("howdah_cluster_commit_wait", "Standbys for which a commit waits.", float64(c.Wait))
	}
	running := func(name string, value float64) {
		gauge("howdah_member_running", "Value is 1 if the member's server runs, 0 otherwise.", value, "ins", name)
	}
	for _, m := range p.Members {
		running(m.Name, truth(m.Running))
		gauge("howdah_member_leader", "Value is 1 if the member holds the leader key, 0 otherwise.", truth(m.Leads()), "ins", m.Name)
		gauge("howdah_member_streaming", "Value is 1 if the member leads or streams, 0 otherwise.", truth(m.Leads() || m.State == cluster.ReplicationStreaming), "ins", m.Name)
		gauge("howdah_member_timeline", "Timeline of the member.", float64(m.Timeline), "ins", m.Name)
		if lag, known := m.Lag(); known {
			gauge("howdah_member_lag_bytes", "Bytes of WAL that the member does not have.", float64(lag), "ins", m.Name)
		}
	}
	for _, name := range p.Away {
		running(name, 0)
	}
	if s.VIP {
		gauge("howdah_vip_holders", "Members that say that they have the virtual address.", float64(len(st.VIP)))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Until)) {
		gauge("howdah_certificate_expires_seconds", "When the certificate that the member shows ends, since the epoch.", float64(s.Until[name].Unix()), "ins", name)
	}
	for _, m := range st.Etcd {
		gauge("howdah_store_up", "Value is 1 if the member of the store answers, 0 otherwise.", truth(m.Up), "ins", m.Name)
	}
	for _, g := range st.Access {
		gauge("howdah_gateway_well", "Value is 1 if the gateway leads clients where the cluster is now, 0 otherwise.", truth(g.Unwell == ""), "ins", g.Member)
	}
	if b := st.Backup; b != nil {
		gauge("howdah_backups", "Backups that the members hold.", float64(len(b.Backups)))
		for _, of := range []struct {
			kind string
			so   func(HeldBackup) bool
		}{{"any", func(HeldBackup) bool { return true }}, {"full", func(h HeldBackup) bool { return h.Type == repo.Full }}} {
			for i := len(b.Backups) - 1; i >= 0; i-- {
				if h := b.Backups[i]; of.so(h) {
					gauge("howdah_backup_last_completion_seconds", "When the newest backup of a type was complete, since the epoch.", float64(h.Stop.Unix()), "backup_type", of.kind)
					gauge("howdah_backup_last_duration_seconds", "How long the newest backup of a type took.", h.Stop.Sub(h.Start).Seconds(), "backup_type", of.kind)
					gauge("howdah_backup_last_size_bytes", "Bytes of the cluster in the newest backup of a type.", float64(h.Size), "backup_type", of.kind)
					gauge("howdah_backup_last_stored_bytes", "Bytes that the newest backup of a type takes by itself.", float64(h.Stored), "backup_type", of.kind)
					gauge("howdah_backup_last_holders", "Members that hold the newest backup of a type; a bucket counts as one.", float64(len(h.Members)), "backup_type", of.kind)
					gauge("howdah_backup_last_error", "Value is 1 if pages of the newest backup of a type had a wrong checksum, 0 otherwise.", truth(h.PageError), "backup_type", of.kind)
					break
				}
			}
		}
		if len(b.Backups) > 0 {
			gauge("howdah_backup_reach_seconds", "The oldest moment that the cluster can be brought back to, since the epoch.", float64(b.Backups[0].Stop.Unix()))
		}
		if h, ok := lastHole(b.Members); ok {
			gauge("howdah_archive_last_hole_seconds", "When the newest hole in the archive came about into which a backup leads, since the epoch.", float64(h.At.Unix()))
		}
		if _, d := b.LastDrill(); d != nil {
			gauge("howdah_drill_passed", "Value is 1 if the last rehearsed restore passed, 0 otherwise.", truth(d.Verdict == keep.Passed))
			gauge("howdah_drill_failed", "Value is 1 if a rehearsed restore found the backup or its log broken and none has passed since, 0 otherwise.", truth(len(failedDrills(b.Members)) > 0))
			gauge("howdah_drill_last_seconds", "When the last rehearsed restore began, since the epoch.", float64(d.Began.Unix()))
			if d.Unasked && d.LSN != "" {
				gauge("howdah_drill_exposure_seconds", "How old at most the end of the log was that the last rehearsed restore brought back, when it began.", d.Exposure.Seconds())
				gauge("howdah_drill_exposure_bytes", "Bytes of log that the leader had when the last rehearsed restore began, and that were not brought back.", float64(d.Missing))
			}
			gauge("howdah_drill_seconds", "How long the last rehearsed restore took up to a server that answers.", (d.Restored + d.Replayed).Seconds())
			gauge("howdah_drill_size_bytes", "Bytes that the last rehearsed restore brought back.", float64(d.Bytes))
			if !d.Last.IsZero() {
				gauge("howdah_drill_last_success_seconds", "When the last rehearsed restore that passed began, since the epoch.", float64(d.Last.Unix()))
			}
		}
		for _, s := range b.Members {
			of := []string{"ins", s.Member}
			if s.Repository != "" {
				of = append(of, "repository", s.Repository)
			}
			gauge("howdah_backup_running", "Value is 1 while the member makes or copies a backup, 0 otherwise.", truth(s.Running != nil), of...)
			gauge("howdah_backup_failed", "Value is 1 if the member's last attempt came to nothing, 0 otherwise.", truth(s.Failed != nil), of...)
			gauge("howdah_repository_well", "Value is 1 if the member can say what its repository has, 0 otherwise.", truth(s.Unwell == "" || s.Empty), of...)
			if at := s.Streamed.At; !at.IsZero() {
				gauge("howdah_archive_exposure_seconds", "How old the end of the log is that the member's repository has; what is older is there.", max(st.At.Sub(at), 0).Seconds(), of...)
			}
			if s.Leads {
				gauge("howdah_archive_pending_files", "Segments of WAL that wait for the archive.", float64(s.Archive.Pending), of...)
				gauge("howdah_archive_pending_bytes", "Bytes of the WAL that waits for the archive.", float64(s.Archive.Bytes), of...)
				if !s.DrillDue.IsZero() {
					gauge("howdah_drill_due_seconds", "When the schedule wants the next rehearsed restore, since the epoch.", float64(s.DrillDue.Unix()))
				}
				gauge("howdah_archive_hole", "Value is 1 if a segment is missing after the newest backup, 0 otherwise.", truth(s.Hole != "" || len(s.Lost) > 0), of...)
			}
		}
	}
	told := map[string]bool{}
	for _, m := range st.Problems {
		if key := m.Member + "\x00" + m.Code; !told[key] { // one of a kind is enough
			told[key] = true
			gauge("howdah_problem", "A problem that status shows; docs/problems.md has its code.", 1, "ins", m.Member, "code", m.Code)
		}
	}
}
