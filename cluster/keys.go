// Package cluster holds the words of a cluster: Patroni's value for every key,
// ours beside them, and the Picture that everyone computes from one snapshot.
//
// The formats are Patroni's to the letter (compact JSON, its field order and
// omissions), because patronictl and vip-manager read over our shoulder; golden
// tests hold them. Nothing here does I/O or knows the time.
package cluster

import "strings"

// Keys of Patroni's layout, relative to the base.
const (
	KeyInitialize = "initialize"
	KeyConfig     = "config"
	KeyLeader     = "leader"
	KeyStatus     = "status"
	KeySync       = "sync"
	KeyFailover   = "failover"
	KeyHistory    = "history"
	KeyFailsafe   = "failsafe"
	DirMembers    = "members/"
)

// Keys of our own.
const (
	KeyTerm        = "howdah/term"         // put in the transaction that takes the leader key: its Mod is the epoch
	KeyClaim       = "howdah/claim"        // who creates the database system; leased
	KeyHandover    = "howdah/handover"     // a planned change of leader: who may take the key, from where on
	KeyDrain       = "howdah/drain"        // a planned change of leader: gateways hold their clients
	KeyRestore     = "howdah/restore"      // the cluster is brought back to a moment, or was
	KeyNumbering   = "howdah/numbering"    // how often the store has begun anew: see dcs/etcd
	DirRecorded    = "howdah/members/"     // every member that ever joined; unleased
	DirPledges     = "howdah/pledges/"     // positions for the election after an epoch
	DirWhy         = "howdah/why/"         // last decision of each member
	DirFailovers   = "howdah/failovers/"   // a page for each change of leader, by epoch
	DirRequests    = "howdah/requests/"    // what a person asked of one member
	DirSchedules   = "howdah/schedules/"   // the same, for later
	DirGateways    = "howdah/gateways/"    // who leads clients to the cluster, by host; leased
	DirSuccessions = "howdah/successions/" // which gateways are to be restarted, by host
	DirSuspects    = "howdah/suspects/"    // voters who hear nothing of the leader
)

// keyOptime is where Patroni before 2.1 kept the leader's position.
const keyOptime = "optime/leader"

// Fleeting says that a key tells who leads, who lives or what is under way: what
// holds at this moment, or never again. A store that is put back to what it was some
// time ago comes without such keys; those who live tell it anew.
func Fleeting(key string) bool {
	switch key {
	case KeyInitialize, KeyLeader, KeyStatus, KeySync, KeyFailover, KeyFailsafe, keyOptime,
		KeyTerm, KeyClaim, KeyHandover, KeyDrain, KeyRestore:
		return true
	}
	for _, dir := range []string{DirMembers, DirPledges, DirWhy, DirRequests, DirSchedules, DirGateways, DirSuccessions, DirSuspects} {
		if strings.HasPrefix(key, dir) {
			return true
		}
	}
	return false
}
