package gateway

import (
	"context"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/logkey"
)

// restart takes up a wish of the store that this gateway be restarted. It is taken away
// first: whoever comes next shall not find it. What comes of it is in the announcement:
// another beginning, or why there is none.
func (f *front) restart(ctx context.Context, store dcs.Store, keys map[string]cluster.KV) {
	s := f.gateway.succession
	kv, asked := keys[cluster.DirSuccessions+f.gateway.node.Host]
	if !asked || !s.serves() {
		return
	}
	r, err := cluster.ParseRequest(f.gateway.node.Host, kv.Value)
	if err != nil {
		f.log.Warn("what was asked of this gateway can not be read", logkey.Error, err)
	}
	within, stop := context.WithTimeout(ctx, announceIn)
	defer stop()
	got, err := store.Do(within, dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ModIs(kv.Key, kv.Mod)}, Ops: []dcs.Op{dcs.Delete(kv.Key)}})
	if err != nil || !got.OK {
		return // it is there still, or was taken away
	}
	f.log.Info("restart asked for", "by", r.By)
	s.ask(func(err error) {
		if err != nil {
			f.stand(func(is *standing) { is.refused = r.ID + ": " + err.Error() })
		}
	})
}

// serves says that it is this process that serves, and none after it.
func (s *succession) serves() bool {
	select {
	case <-s.begun:
		return s.leaving.Err() == nil
	default:
		return false
	}
}
