package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/exposition"
	"howdah/listen"
	"howdah/logkey"
	"howdah/secret"
	"howdah/spec"
)

// A desk is the statistics page: HAProxy's paths, forms and formats.
type desk struct {
	*Gateway
	spec.Page
	Password secret.Text // of who may change something; "": nobody may
}

// Admin is the user who may set servers to drain, maint and ready, unless the
// node names another.
const Admin = "admin"

// pageGuests is how many may ask a page at a time: browsers, and whoever collects.
const pageGuests = 64

// serve has h answer on l until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // of strangers that dial
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(listen.AtMost(l, pageGuests)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/haproxy/"), "/")
	switch {
	case r.URL.Path == "/metrics":
		w.Header().Set("Content-Type", exposition.ContentType)
		_ = d.writeMetrics(w, d.stats(), buildVersion()) // who has gone asks again
	case r.URL.Path == RoutesPath:
		d.tell(w)
	case r.URL.Path == "/":
		http.Redirect(w, r, "/haproxy/"+url.PathEscape(d.node.Member)+"/", http.StatusFound)
	case !strings.HasPrefix(r.URL.Path, "/haproxy/") || node == "":
		http.NotFound(w, r)
	case !ok && !strings.Contains(node, ";"):
		http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
	case r.Method == http.MethodPost:
		d.change(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "GET, HEAD or POST", http.StatusMethodNotAllowed)
	case d.Private && !d.may(w, r):
	default:
		d.show(w, cmp.Or(rest, node))
	}
}

// may says whether whoever asks is the page's user, and answers if not.
func (d *desk) may(w http.ResponseWriter, r *http.Request) bool {
	name, password, ok := r.BasicAuth()
	user := same(name, cmp.Or(d.User, Admin))
	if ok && d.Password != "" && same(password, d.Password.Reveal()) && user {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="HAProxy Statistics"`)
	http.Error(w, "the user of this page and the password are required", http.StatusUnauthorized)
	return false
}

// same compares without telling by its time how much of a secret was right.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// show answers with the format that stands behind a semicolon.
func (d *desk) show(w http.ResponseWriter, path string) {
	rows := d.stats()
	w.Header().Set("Cache-Control", "no-cache")
	switch {
	case strings.Contains(path, ";csv"):
		w.Header().Set("Content-Type", "text/plain")
		_ = writeCSV(w, rows)
	case strings.Contains(path, ";json"):
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(typed(rows))
	default:
		_, done, _ := strings.Cut(path, ";st=")
		var b bytes.Buffer
		if err := pageTemplate.Execute(&b, d.tables(rows, done)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = b.WriteTo(w)
	}
}

// A field is one value of HAProxy's typed JSON.
type field struct {
	ObjType string `json:"objType"`
	ProxyID int    `json:"proxyId"`
	ID      int    `json:"id"`
	Field   struct {
		Pos  int    `json:"pos"`
		Name string `json:"name"`
	} `json:"field"`
	ProcessNum int `json:"processNum"`
	Value      struct {
		Type  string `json:"type"`
		Value any    `json:"value"`
	} `json:"value"`
}

// typed are the rows as HAProxy's JSON has them.
func typed(rows []stat) [][]field {
	all := [][]field{}
	for _, s := range rows {
		var out []field
		values := s.fields()
		for i, name := range columns {
			text, ok := values[name]
			if !ok || text == "" {
				continue
			}
			f := field{ObjType: []string{"Frontend", "Backend", "Server"}[s.kind], ProxyID: s.iid, ID: s.sid, ProcessNum: 1}
			f.Field.Pos, f.Field.Name = i, name
			f.Value.Type, f.Value.Value = "str", text
			if n, err := strconv.ParseInt(text, 10, 64); err == nil && name != "pxname" && name != "svname" {
				f.Value.Type, f.Value.Value = "u64", n
			}
			out = append(out, f)
		}
		all = append(all, out)
	}
	return all
}

// actions that a form may ask for. HAProxy has more, which act on checks and
// agents that we do not have.
var actions = []string{"ready", "drain", "maint", "shutdown"}

// change does what the form asks, and says by its redirect what came of it.
func (d *desk) change(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		http.Error(w, "a form of another site", http.StatusForbidden)
		return
	}
	if !d.may(w, r) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	status := "ERRP"
	if err := r.ParseForm(); err == nil {
		status = d.act(r.PostForm)
	}
	base, _, _ := strings.Cut(r.URL.Path, ";")
	w.Header().Set("Location", strings.TrimSuffix(base, "/")+"/;st="+status)
	w.WriteHeader(http.StatusSeeOther)
}

// act carries out a form: DONE, NONE (nothing changed), PART, ERRP (not
// understood), UNKN (no such action), by HAProxy's words.
func (d *desk) act(form url.Values) string {
	action := form.Get("action")
	if !slices.Contains(actions, action) {
		return "UNKN"
	}
	p := d.proxy(form.Get("b"))
	if p == nil || len(form["s"]) == 0 {
		return "ERRP"
	}
	s, _ := p.route()
	did, unknown := 0, 0
	for _, member := range form["s"] {
		if _, ok := s.Backend(member); !ok {
			unknown++
		} else if p.set(member, action) {
			did++
			d.log.Info("server set by hand", "service", p.name, logkey.Member, member, logkey.Action, action)
		}
	}
	switch {
	case unknown == len(form["s"]):
		return "ERRP"
	case did == 0:
		return "NONE"
	case unknown > 0:
		return "PART"
	}
	return "DONE"
}

// proxy is the port of that name or, behind a hash, number.
func (d *desk) proxy(name string) *port {
	for i, p := range d.ports {
		if name == p.name || name == "#"+strconv.Itoa(i+1) {
			return p
		}
	}
	return nil
}

// A table is one service on the page.
type table struct {
	ID   int
	Name string
	Rows []tableRow
}

type tableRow struct {
	Name, Status, Class, Weight, Addr, Why string
	Current, Most, Total, In, Out, Errors  int64
	Since                                  string
	Server                                 bool
}

type pageData struct {
	Node, Done string
	Tables     []table
}

func (d *desk) tables(rows []stat, done string) pageData {
	p := pageData{Node: d.node.Member, Done: map[string]string{
		"DONE": "Done.", "NONE": "Nothing changed.", "PART": "Some of the servers are unknown.",
		"ERRP": "The form was not understood.", "UNKN": "There is no such action.",
	}[done]}
	for _, s := range rows {
		if s.kind == 0 {
			p.Tables = append(p.Tables, table{ID: s.iid, Name: s.proxy})
		}
		t := &p.Tables[len(p.Tables)-1]
		row := tableRow{
			Name: s.server, Status: s.status, Class: strings.ToLower(s.status), Addr: s.addr, Why: s.why, Server: s.kind == 2,
			Current: s.current, Most: s.most, Total: s.total, In: s.in, Out: s.out, Errors: s.connectErrors + s.refused,
		}
		if s.kind > 0 {
			row.Weight, row.Since = strconv.Itoa(s.weight), s.lastChange.Round(time.Second).String()
		}
		if s.backup == 1 && s.kind == 2 {
			row.Status += " (backup)"
		}
		t.Rows = append(t.Rows, row)
	}
	return p
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta http-equiv="refresh" content="30"><title>Services of {{.Node}}</title><style>
body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin:0 0 .5em}th,td{border:1px solid #ccc;padding:2px 8px;text-align:right}
th{background:#eee}td:nth-child(2),td:nth-child(3),td:last-child{text-align:left}.up,.open{background:#dfd}.down{background:#fdd}.maint,.drain{background:#ffc}
</style></head><body><h1>Services of {{.Node}}</h1>{{with .Done}}<p><b>{{.}}</b></p>{{end}}
{{range .Tables}}<h2>{{.Name}}</h2><form method="post"><input type="hidden" name="b" value="#{{.ID}}"><table>
<tr><th></th><th>Server</th><th>Status</th><th>Since</th><th>Weight</th><th>Sessions</th><th>Max</th><th>Total</th><th>Bytes in</th><th>Bytes out</th><th>Errors</th><th>Address</th><th>Why</th></tr>
{{range .Rows}}<tr class="{{.Class}}"><td>{{if .Server}}<input type="checkbox" name="s" value="{{.Name}}">{{end}}</td><td>{{.Name}}</td><td>{{.Status}}</td><td>{{.Since}}</td><td>{{.Weight}}</td><td>{{.Current}}</td><td>{{.Most}}</td><td>{{.Total}}</td><td>{{.In}}</td><td>{{.Out}}</td><td>{{.Errors}}</td><td>{{.Addr}}</td><td>{{.Why}}</td></tr>
{{end}}</table><select name="action"><option value="ready">ready</option><option value="drain">drain</option><option value="maint">maint</option><option value="shutdown">kill sessions</option></select> <input type="submit" value="Apply"></form>
{{end}}</body></html>
`))
