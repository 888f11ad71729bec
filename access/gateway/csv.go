package gateway

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// columns are HAProxy's, in its order, which is an interface (HAProxy
// Management Guide, "Statistics and monitoring").
var columns = strings.Fields(`pxname svname qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis
	status weight act bck chkfail chkdown lastchg downtime qlimit pid iid sid throttle lbtot tracked type rate rate_lim rate_max
	check_status check_code check_duration hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other hanafail req_rate
	req_rate_max req_tot cli_abrt srv_abrt comp_in comp_out comp_byp comp_rsp lastsess last_chk last_agt qtime ctime rtime
	ttime agent_status agent_code agent_duration check_desc agent_desc check_rise check_fall check_health agent_rise
	agent_fall agent_health addr cookie mode algo conn_rate conn_rate_max conn_tot intercepted dcon dses wrew connect reuse
	cache_lookups cache_hits srv_icur src_ilim qtime_max ctime_max rtime_max ttime_max`)

// fields are the columns that have a value in this row.
func (s stat) fields() map[string]string {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	f := map[string]string{
		"pxname": s.proxy, "svname": s.server, "scur": n(s.current), "smax": n(s.most), "stot": n(s.total),
		"bin": n(s.in), "bout": n(s.out), "dreq": "0", "dresp": "0", "status": s.status, "pid": "1",
		"iid": n(int64(s.iid)), "sid": n(int64(s.sid)), "type": n(int64(s.kind)), "rate": n(s.rate.now), "rate_max": n(s.rate.most),
		"mode": "tcp",
	}
	if s.limit > 0 {
		f["slim"] = n(s.limit)
	}
	if s.kind == 0 {
		f["ereq"], f["rate_lim"] = "0", "0"
		f["conn_rate"], f["conn_rate_max"], f["conn_tot"] = n(s.rate.now), n(s.rate.most), n(s.total)
		f["dcon"], f["dses"], f["intercepted"] = "0", "0", "0"
		return f
	}
	for k, v := range map[string]int64{
		"qcur": s.queued, "qmax": s.queuedMost, "econ": s.connectErrors, "weight": int64(s.weight), "act": int64(s.active),
		"bck": int64(s.backup), "chkdown": s.checkDowns, "lbtot": s.total, "cli_abrt": s.clientAborts, "srv_abrt": s.serverAborts,
		"ctime": s.averageMS, "ctime_max": s.greatest, "connect": s.connects,
	} {
		f[k] = n(v)
	}
	for _, k := range []string{"eresp", "wretr", "wredis", "qtime", "rtime", "ttime", "qtime_max", "rtime_max", "ttime_max", "reuse"} {
		f[k] = "0"
	}
	f["lastchg"], f["downtime"], f["lastsess"] = seconds(s.lastChange), seconds(s.downtime), seconds(s.lastSession)
	if s.kind == 1 {
		f["algo"] = s.algorithm
		return f
	}
	f["chkfail"], f["addr"], f["qlimit"], f["throttle"] = n(s.checkFailures), s.addr, "", ""
	if s.queueLimit > 0 {
		f["qlimit"] = n(s.queueLimit)
	}
	f["check_status"], f["check_code"], f["check_duration"] = "L7STS", "503", "0"
	f["check_desc"], f["last_chk"] = "Layer7 wrong status", s.why
	f["check_rise"], f["check_fall"], f["check_health"] = "3", "3", "0"
	if s.check {
		f["check_status"], f["check_code"], f["check_desc"], f["check_health"] = "L7OK", "200", "Layer7 check passed", "5"
	}
	if s.status == "MAINT" { // not even checked
		f["check_status"], f["check_code"], f["check_desc"] = "", "", ""
	}
	return f
}

// writeCSV writes rows as HAProxy does: a header behind a hash, and a comma
// after the last field.
func writeCSV(w io.Writer, rows []stat) error {
	if _, err := fmt.Fprintf(w, "# %s,\n", strings.Join(columns, ",")); err != nil {
		return err
	}
	c := csv.NewWriter(w)
	record := make([]string, len(columns)+1)
	for _, s := range rows {
		f := s.fields()
		for i, name := range columns {
			record[i] = f[name]
		}
		if err := c.Write(record); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
