package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/wire"
)

// ask sends a request and returns the answer in its own type.
func ask[R wire.Response](ctx context.Context, b cluster.Broker, req wire.Request) (R, error) {
	var none R
	r, err := b.Do(ctx, req)
	if err != nil {
		return none, err
	}
	resp, ok := r.(R)
	if !ok {
		return none, fmt.Errorf("%s answered by %T", req.Key(), r)
	}
	return resp, nil
}

// anyBroker lets a whole cluster answer as a broker does.
type anyBroker struct{ *cluster.Map }

// with runs do with a client of the cluster and the time of one request.
func (f *clientFlags) with(ctx context.Context, do func(ctx context.Context, m *cluster.Map) error) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	m := f.open()
	defer m.Close()
	return do(ctx, m)
}

// print writes v as JSON if the user wants that, else what show writes.
func (f *clientFlags) print(out io.Writer, v any, show func(io.Writer) error) error {
	if !f.json {
		return show(out)
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.Len() == 0 {
		v = []struct{}{} // Nothing is an empty list, not null.
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// shown is text of strangers, a group's id or a client's, as a terminal may have it: quoted where it has more than letters,
// signs and spaces, which could move the cursor or change what else is shown.
func shown(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	return strconv.Quote(text)
}

// keyValue is one key=value of a command line.
type keyValue struct{ key, value string }

// parsePairs reads key=value words; a value may hold further signs.
func parsePairs(what string, list []string) ([]keyValue, error) {
	var out []keyValue
	for _, w := range list {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, usage("%s %q: want key=value", what, w)
		}
		out = append(out, keyValue{key, value})
	}
	return out, nil
}

// errNotConfirmed ends what was not wanted after all.
var errNotConfirmed = errors.New("not done: it was not confirmed")

// confirm asks a person before something is lost for ever. Programs, and those
// who said --yes, are not asked.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes || !isTerminal(cmd.InOrStdin()) {
		return nil
	}
	return askYes(cmd.InOrStdin(), cmd.ErrOrStderr(), question)
}

func askYes(in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s [y/N] ", question)
	line, _ := bufio.NewReader(in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}
