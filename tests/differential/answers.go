package differential

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"

	"github.com/barnabas-log/barnabas/wire"
)

// recorded is a line of an answers file: what a step came to in versions that came to the same.
type recorded struct {
	Step     string  `json:"step"`
	Versions []int16 `json:"versions"`
	Answer   any     `json:"answer"`
}

func writeAnswers(file string, outcomes []outcome) error {
	var lines []recorded
	for _, o := range outcomes {
		if n := len(lines) - 1; n >= 0 && lines[n].Step == o.step && reflect.DeepEqual(lines[n].Answer, o.answer) {
			lines[n].Versions = append(lines[n].Versions, o.version)
			continue
		}
		lines = append(lines, recorded{o.step, []int16{o.version}, o.answer})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, l := range lines {
		if err := e.Encode(l); err != nil {
			return err
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func readAnswers(file string) ([]outcome, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var outcomes []outcome
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l recorded
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, err
		}
		for _, v := range l.Versions {
			outcomes = append(outcomes, outcome{l.Step, v, l.Answer})
		}
	}
	return outcomes, lines.Err()
}

// settle passes an answer through what we do otherwise on purpose.
func settle(api, step string, answer any) any {
	m, ok := clone(answer).(map[string]any)
	if !ok {
		return answer
	}
	for _, d := range differences() {
		if d.api == api && (d.steps == nil || slices.Contains(d.steps, step)) {
			d.edit(m)
		}
	}
	return m
}

// clone copies a tree, with the types that JSON gives, so that an answer just made and a recorded one are alike.
func clone(answer any) any {
	b, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	var c any
	if err := json.Unmarshal(b, &c); err != nil {
		panic(err)
	}
	return c
}

// apiOf finds the API of a step by its label, which the script knows.
func apiOf(s *script, label string) string {
	for i := range s.steps {
		if s.steps[i].label() == label {
			return s.steps[i].apiName()
		}
	}
	return ""
}

func (s *step) apiName() string {
	if s.verb == "call" {
		return s.api.Name
	}
	for _, a := range wire.APIs() {
		for _, token := range s.args {
			if name, ok := bytes.CutPrefix([]byte(token), []byte("as="+a.Name+":")); ok && len(name) > 0 {
				return a.Name
			}
		}
	}
	return ""
}
