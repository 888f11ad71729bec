package embed

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"howdah/cluster"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/problem"
)

// A Founding asks a member to begin a store of its own, alone, when it starts the
// next time: the others join it then. It is what is left when a majority is gone
// for ever, and how a snapshot is put back.
//
// What says who leads does not come along (cluster.Fleeting): the new store may be
// behind the lost one, and who believes an old leader key loses what a later
// leader has written. Those who live tell who leads (ha/rebuild.go). Nothing is
// deleted: the data of before lie beside the directory.
type Founding struct {
	// From is the database that the store begins with: a snapshot. "": the member's
	// own data, with everything of its log that it knows to be kept, or nothing where
	// it has none. One that was killed may not know that of the last moment's entries:
	// etcd writes how far that is without waiting for the disk.
	From string `json:"from"`

	ID string `json:"id"` // by which what was made for it is known
}

func founding(data string) string { return data + ".founding" }

// Ask writes f beside the member's data.
func (f Founding) Ask(data string, uid, gid int) error {
	f.ID = rand.Text()
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return nodefile.WriteFile(founding(data), b, 0o600, uid, gid)
}

// Rejoin asks a member to put its data aside when it starts the next time, and to
// join the others as a new member.
func Rejoin(data string, uid, gid int) error {
	return nodefile.WriteFile(rejoining(data), nil, 0o600, uid, gid)
}

func rejoining(data string) string { return data + ".rejoin" }

// bump is by how much the revisions of a store that begins anew exceed those of
// its database: by more than the lost one may have been ahead.
const bump = 1 << 30

// prepare carries out what was asked of the member before it starts, and changes c
// for that. Every step is harmless to repeat.
func prepare(ctx context.Context, c *embed.Config, log *slog.Logger) (founds bool, err error) {
	b, err := os.ReadFile(founding(c.Dir))
	switch {
	case err == nil:
		var f Founding
		if err := json.Unmarshal(b, &f); err != nil {
			return false, fmt.Errorf("%s: %w", founding(c.Dir), err)
		}
		if err := f.carryOut(ctx, c, log); err != nil {
			return false, &problem.Error{
				Code: "etcd-founding", What: "cannot begin a store of its own with etcd member " + c.Name,
				Do: "read the cause; nothing was deleted. Remove " + founding(c.Dir) + " to go on as before", Err: err,
			}
		}
		// Who joins must get the database, not the log, which does not lead to it: the
		// log's beginning has to be gone before anybody joins. At its next start the
		// member takes snapshots as seldom as any other.
		c.SnapshotCount = 1
		c.InitialCluster = c.Name + "=" + c.AdvertisePeerUrls[0].String()
		c.InitialClusterToken = "howdah-" + rand.Text() // no member of the old one is taken for one of this
		return true, nil
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	if _, err := os.Stat(rejoining(c.Dir)); err == nil {
		kept, err := aside(c.Dir)
		if err != nil {
			return false, err
		}
		log.Warn("etcd member puts its data aside and joins anew", logkey.Path, kept)
		return false, os.Rename(rejoining(c.Dir), leaving(c))
	}
	return false, nil
}

// aside moves a directory away, if it is there, and makes an empty one.
func aside(dir string) (kept string, err error) {
	kept = dir + ".kept-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(dir, kept); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return kept, os.MkdirAll(dir, 0o700)
}

// founded is the note, in a data directory, for which founding it was made.
const founded = "founded"

func (f Founding) madeIn(dir string) bool {
	id, err := os.ReadFile(filepath.Join(dir, founded))
	return err == nil && string(id) == f.ID
}

func (f Founding) carryOut(ctx context.Context, c *embed.Config, log *slog.Logger) error {
	if f.madeIn(c.Dir) {
		return nil
	}
	next := c.Dir + ".next"
	if !f.madeIn(next) {
		if err := f.make(ctx, c, next); err != nil {
			return err
		}
	}
	kept, err := aside(c.Dir)
	if err == nil {
		err = os.Remove(c.Dir)
	}
	if err == nil {
		err = os.Rename(next, c.Dir)
	}
	if err == nil {
		log.Warn("etcd member begins a store of its own", logkey.Path, kept)
	}
	return err
}

// make makes the data in next.
func (f Founding) make(ctx context.Context, c *embed.Config, next string) error {
	from := f.From
	if from == "" && wal.Exist(filepath.Join(c.Dir, "member", "wal")) {
		if err := replay(ctx, *c); err != nil {
			return fmt.Errorf("read the log of %s: %w", c.Dir, err)
		}
		from = filepath.Join(c.Dir, "member", "snap", "db")
	}
	if err := os.RemoveAll(next); err != nil { // half made, or for another founding
		return err
	}
	if err := os.MkdirAll(filepath.Join(next, "member", "snap"), 0o700); err != nil {
		return err
	}
	if from != "" {
		db := filepath.Join(next, "member", "snap", "db")
		if err := duplicate(from, db); err != nil {
			return err
		}
		if err := unbind(db); err != nil {
			return fmt.Errorf("database %s: %w", from, err)
		}
	}
	return nodefile.WriteFile(filepath.Join(next, founded), []byte(f.ID), 0o600, -1, -1)
}

// replay brings everything of the member's log into its database: it starts it for
// a moment as the only member of a cluster that nobody can reach.
func replay(ctx context.Context, c embed.Config) error {
	c.ForceNewCluster = true
	nowhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientUrls, c.ListenPeerUrls = nowhere, nowhere
	e, err := embed.StartEtcd(&c)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
		e.Server.Stop()
		return nil
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		e.Server.HardStop()
		return ctx.Err()
	}
}

// duplicate copies a database without the checksum that ends a snapshot.
func duplicate(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := src.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	const page = 512 // a database is so many of these, a snapshot has 32 bytes more
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.CopyN(dst, src, size-size%page); err != nil {
		return err
	}
	return dst.Sync()
}

// unbind makes the database at path one that a new cluster may begin with: no
// members, no place in a log, higher revisions, and without what says who leads.
func unbind(path string) error {
	lg := zap.NewNop()
	be := backend.NewDefaultBackend(lg, path)
	defer be.Close()
	if err := schema.NewMembershipBackend(lg, be).TrimMembershipFromBackend(); err != nil {
		return err
	}
	tx := be.BatchTx()
	tx.LockOutsideApply()
	tx.UnsafeDelete(schema.Meta, schema.MetaConsistentIndexKeyName)
	tx.UnsafeDelete(schema.Meta, schema.MetaTermKeyName)
	tx.UnsafeDelete(schema.Meta, schema.MetaConfStateName)
	var last mvcc.Revision
	err := tx.UnsafeForEach(schema.Key, func(k, _ []byte) error {
		if rev := mvcc.BytesToRev(k); rev.GreaterThan(last) {
			last = rev
		}
		return nil
	})
	if err == nil {
		// As etcdutl's --bump-revision does it: a revision that has no key.
		tx.UnsafePut(schema.Key, mvcc.RevToBytes(mvcc.Revision{Main: last.Main + bump}, mvcc.NewRevBytes()), nil)
	}
	tx.Unlock()
	be.ForceCommit()
	if err != nil {
		return err
	}

	kv := mvcc.NewStore(lg, be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer kv.Close()
	all, err := kv.Range(context.Background(), []byte{0}, []byte{0xff}, mvcc.RangeOptions{})
	if err != nil {
		return err
	}
	var keys []string
	for _, k := range all.KVs {
		keys = append(keys, string(k.Key))
	}
	for _, key := range fleeting(keys) {
		kv.DeleteRange([]byte(key), nil)
	}
	kv.Commit()
	return nil
}

// fleeting are those of keys that say who leads one of the clusters.
func fleeting(keys []string) []string {
	var bases, gone []string
	for _, key := range keys {
		for _, known := range []string{cluster.KeyInitialize, cluster.KeyTerm} {
			if base, ok := strings.CutSuffix(key, "/"+known); ok && !slices.Contains(bases, base+"/") {
				bases = append(bases, base+"/")
			}
		}
	}
	for _, key := range keys {
		for _, base := range bases {
			if rest, ok := strings.CutPrefix(key, base); ok && cluster.Fleeting(rest) {
				gone = append(gone, key)
				break
			}
		}
	}
	return gone
}
