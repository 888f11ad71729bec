package gateway

import (
	"encoding/json"
	"net/http"
)

// RoutesPath is where a gateway says on its statistics port what it does now.
// It tells no more than its metrics, and is as free to be read.
const RoutesPath = "/howdah/routes"

// Routes are one cluster's services as a gateway carries them.
type Routes struct {
	Cluster    string   `json:"cluster"`
	Namespace  string   `json:"namespace"`
	Generation int64    `json:"generation"` // of the picture that it follows; 0: it has seen none
	Blind      bool     `json:"blind"`      // it lost sight of the store since
	Services   []Routed `json:"services"`
}

// Routed is where one service leads.
type Routed struct {
	Name string   `json:"name"`
	Port int      `json:"port"`
	To   []string `json:"to"` // nobody: clients wait
}

// told are the routes of every cluster.
func (g *Gateway) told() []Routes {
	all := []Routes{}
	for _, f := range g.fronts {
		f.mu.Lock()
		r := Routes{Cluster: f.Cluster, Namespace: f.Namespace, Generation: f.view.Picture.Generation, Blind: f.blind.Load(), Services: []Routed{}}
		routes, _ := f.routes.Get()
		f.mu.Unlock()
		for i, s := range routes {
			to := Routed{Name: f.ports[i].service.Name, Port: f.ports[i].service.Port, To: []string{}}
			for _, b := range s.Usable() {
				to.To = append(to.To, b.Member)
			}
			r.Services = append(r.Services, to)
		}
		all = append(all, r)
	}
	return all
}

func (d *desk) tell(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_ = json.NewEncoder(w).Encode(d.told()) // who has gone asks again
}
