package console

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"time"

	"howdah/control"
	"howdah/machine/doctor"
)

// askWithin is what servers and machines may take together to answer.
const askWithin = 8 * time.Second

// asked is the cluster that a request is about, if it can be asked.
func (c *Console) asked(w http.ResponseWriter, r *http.Request) (Asked, context.Context, context.CancelFunc, bool) {
	of, ok := c.Clusters[r.FormValue("cluster")].(Asked)
	if !ok {
		http.Error(w, "there is no such cluster", http.StatusNotFound)
		return nil, nil, nil, false
	}
	ctx, cancel := context.WithTimeout(r.Context(), askWithin)
	return of, ctx, cancel, true
}

// activity is what a server's sessions do. What they say, with its constants, is for
// operators: others see the statement's text without them.
func (c *Console) activity(w http.ResponseWriter, r *http.Request) {
	of, ctx, cancel, ok := c.asked(w, r)
	if !ok {
		return
	}
	defer cancel()
	now, err := of.Activity(ctx, r.FormValue("member"))
	if err != nil {
		refused(w, http.StatusBadGateway, plain(err))
		return
	}
	if c.door.who(r, time.Now()) != operator {
		for i := range now.Sessions {
			now.Sessions[i].Query = ""
		}
	}
	answer(w, now)
}

// statements are texts of statements by their numbers.
func (c *Console) statements(w http.ResponseWriter, r *http.Request) {
	of, ctx, cancel, ok := c.asked(w, r)
	if !ok {
		return
	}
	defer cancel()
	texts, err := of.Statements(ctx, r.FormValue("member"), strings.Split(r.FormValue("ids"), ","))
	if err != nil {
		refused(w, http.StatusBadGateway, plain(err))
		return
	}
	if c.door.who(r, time.Now()) != operator {
		for id, text := range texts {
			texts[id] = unsaid(text)
		}
	}
	answer(w, map[string]any{"texts": texts})
}

var (
	normal   = regexp.MustCompile(`(?is)^\s*(?:SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|TABLE)\b`)
	constant = regexp.MustCompile(`(?s)/\*.*?(?:\*/|$)|--[^\n]*|\$[A-Za-z_]*\$.*|'(?:[^'\\]|''|\\.)*(?:'|$)`)
)

// unsaid is the text of a statement for whoever may not read constants: of those that
// pg_stat_statements keeps as they were said nothing but the first word is left, and of
// others what would still be one is not.
func unsaid(text string) string {
	if !normal.MatchString(text) {
		word, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		return word + " … (its text is for operators)"
	}
	return constant.ReplaceAllString(text, "…")
}

// machines is what the machines' own checks find.
func (c *Console) machines(w http.ResponseWriter, r *http.Request) {
	of, ctx, cancel, ok := c.asked(w, r)
	if !ok {
		return
	}
	defer cancel()
	all := of.Machines(ctx)
	if all == nil {
		all = []doctor.Finding{}
	}
	answer(w, map[string]any{"findings": all})
}

// peeks are those that are open; how to reach them is for operators, who open them.
func (c *Console) peeks(w http.ResponseWriter, r *http.Request) {
	of, ctx, cancel, ok := c.asked(w, r)
	if !ok {
		return
	}
	defer cancel()
	all := []control.PeekThere{}
	if c.door.who(r, time.Now()) == operator {
		all = of.Peeks(ctx)
	}
	answer(w, map[string]any{"peeks": all})
}
