package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"howdah/backup/keep"
	"howdah/backup/repo"
	"howdah/cluster"
	"howdah/problem"
)

// What status shows is told in series; of a cluster that was not seen nothing
// but that.
func TestMetrics(t *testing.T) {
	behind := int64(7)
	st := Status{
		Picture: cluster.Picture{
			Leader: "demo-1", Timeline: 2, Away: []string{"demo-3"},
			Members: []cluster.PictureMember{{Name: "demo-1", Role: cluster.Leads, Running: true, Timeline: 2}},
		},
		Exposure: &behind,
		Problems: []MemberProblem{{"demo-1", problem.Error{Code: "disk-full"}}, {"demo-1", problem.Error{Code: "disk-full"}}},
	}
	want := `# HELP howdah_cluster_seen Value is 1 if the cluster's store answered, 0 otherwise.
# TYPE howdah_cluster_seen gauge
howdah_cluster_seen{cls="demo"} 1
howdah_cluster_seen{cls="gone"} 0
# HELP howdah_cluster_leader Value is 1 if somebody holds the leader key, 0 otherwise.
# TYPE howdah_cluster_leader gauge
howdah_cluster_leader{cls="demo"} 1
# HELP howdah_cluster_paused Value is 1 if automatic failover is paused, 0 otherwise.
# TYPE howdah_cluster_paused gauge
howdah_cluster_paused{cls="demo"} 0
# HELP howdah_cluster_survives Hosts that may be lost with someone left to lead.
# TYPE howdah_cluster_survives gauge
howdah_cluster_survives{cls="demo"} 0
# HELP howdah_cluster_timeline Timeline of the leader.
# TYPE howdah_cluster_timeline gauge
howdah_cluster_timeline{cls="demo"} 2
# HELP howdah_cluster_exposure_bytes Bytes of WAL that would be lost with the leader's host.
# TYPE howdah_cluster_exposure_bytes gauge
howdah_cluster_exposure_bytes{cls="demo"} 7
# HELP howdah_cluster_exposure_limit_bytes Bytes of WAL by which a member may lag and still be promoted (maximum_lag_on_failover).
# TYPE howdah_cluster_exposure_limit_bytes gauge
howdah_cluster_exposure_limit_bytes{cls="demo"} 1.048576e+06
# HELP howdah_member_running Value is 1 if the member's server runs, 0 otherwise.
# TYPE howdah_member_running gauge
howdah_member_running{cls="demo",ins="demo-1"} 1
howdah_member_running{cls="demo",ins="demo-3"} 0
# HELP howdah_member_leader Value is 1 if the member holds the leader key, 0 otherwise.
# TYPE howdah_member_leader gauge
howdah_member_leader{cls="demo",ins="demo-1"} 1
# HELP howdah_member_streaming Value is 1 if the member leads or streams, 0 otherwise.
# TYPE howdah_member_streaming gauge
howdah_member_streaming{cls="demo",ins="demo-1"} 1
# HELP howdah_member_timeline Timeline of the member.
# TYPE howdah_member_timeline gauge
howdah_member_timeline{cls="demo",ins="demo-1"} 2
# HELP howdah_member_lag_bytes Bytes of WAL that the member does not have.
# TYPE howdah_member_lag_bytes gauge
howdah_member_lag_bytes{cls="demo",ins="demo-1"} 0
# HELP howdah_vip_holders Members that say that they have the virtual address.
# TYPE howdah_vip_holders gauge
howdah_vip_holders{cls="demo"} 0
# HELP howdah_certificate_expires_seconds When the certificate that the member shows ends, since the epoch.
# TYPE howdah_certificate_expires_seconds gauge
howdah_certificate_expires_seconds{cls="demo",ins="demo-1"} 1.8e+09
# HELP howdah_problem A problem that status shows; docs/problems.md has its code.
# TYPE howdah_problem gauge
howdah_problem{cls="demo",ins="demo-1",code="disk-full"} 1
`
	got := string(Metrics([]Sighting{{Cluster: "demo", Status: st, VIP: true, Until: map[string]time.Time{"demo-1": time.Unix(1_800_000_000, 0)}}, {Cluster: "gone", Err: errors.New("no answer")}}))
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Of backups it is told how old, how large and how long the newest are, how far
// back they reach, and who is at it.
func TestBackupMetrics(t *testing.T) {
	held := func(kind repo.Type, start, took, size int64) HeldBackup {
		return HeldBackup{Backup: keep.Backup{Type: kind, Start: time.Unix(start, 0), Stop: time.Unix(start+took, 0), Size: size, Stored: size / 4}, Members: []string{"bucket x"}}
	}
	st := Status{At: time.Unix(4000, 0), Backup: &Backups{
		Backups: []HeldBackup{held(repo.Full, 1000, 5, 400), held(repo.Full, 2000, 7, 800), held(repo.Incr, 3000, 2, 804)},
		Members: []keep.State{{Member: "demo-1", Leads: true, Running: &keep.Run{}}, {Member: "demo-2", Failed: &keep.Failure{}, Streamed: keep.Streamed{At: time.Unix(3999, 5e8)}}, {Member: "demo-3", Unwell: "it is empty", Empty: true}, {Member: "demo-4", Unwell: "it does not answer"}},
	}}
	got := string(Metrics([]Sighting{{Cluster: "demo", Status: st}}))
	for _, want := range []string{
		`howdah_backups{cls="demo"} 3`, `howdah_backup_reach_seconds{cls="demo"} 1005`,
		`howdah_backup_last_completion_seconds{cls="demo",backup_type="any"} 3002`, `howdah_backup_last_completion_seconds{cls="demo",backup_type="full"} 2007`,
		`howdah_backup_last_duration_seconds{cls="demo",backup_type="full"} 7`, `howdah_backup_last_size_bytes{cls="demo",backup_type="any"} 804`,
		`howdah_backup_last_stored_bytes{cls="demo",backup_type="full"} 200`, `howdah_backup_last_holders{cls="demo",backup_type="any"} 1`,
		`howdah_backup_running{cls="demo",ins="demo-1"} 1`, `howdah_backup_running{cls="demo",ins="demo-2"} 0`,
		`howdah_backup_failed{cls="demo",ins="demo-1"} 0`, `howdah_backup_failed{cls="demo",ins="demo-2"} 1`,
		`howdah_repository_well{cls="demo",ins="demo-3"} 1`, `howdah_repository_well{cls="demo",ins="demo-4"} 0`,
		`howdah_archive_exposure_seconds{cls="demo",ins="demo-2"} 0.5`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
}
