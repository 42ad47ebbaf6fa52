package coordinator

import (
	"errors"
	"regexp"
	"regexp/syntax"
)

const (
	// maxPattern is the most bytes that an expression may have. What it is to
	// match, names of topics and transactional ids, usually has some dozens.
	maxPattern = 4096
	// MaxProgram is the most instructions that it may be compiled to: real ones
	// have some dozens. To match costs at most so many steps for each byte.
	MaxProgram = 1000
)

// Pattern is a compiled regular expression of a stranger.
type Pattern struct {
	*regexp.Regexp
	Cost int // About how many steps it takes for each byte.
}

// CompilePattern compiles an expression that has to match a whole name. It is
// measured first: a few bytes may stand for millions of instructions. The error
// is in the words of RE2, which Kafka's RE2/J uses, too.
func CompilePattern(expression string) (*Pattern, error) {
	if len(expression) > maxPattern {
		return nil, errors.New("expression too long")
	}
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		var bad *syntax.Error
		if errors.As(err, &bad) {
			err = errors.New(bad.Code.String())
		}
		return nil, err
	}
	if instructions(tree) > 2*MaxProgram { // It counts some that simplifying takes away.
		return nil, errTooLarge
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > MaxProgram {
		return nil, errTooLarge
	}
	compiled, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return nil, err
	}
	return &Pattern{compiled, len(program.Inst)}, nil
}

var errTooLarge = errors.New("expression too large")

// instructions is about how many instructions a tree is compiled to, or many
// more than are allowed. The parser bounds how deep trees are.
func instructions(tree *syntax.Regexp) int {
	n := 0
	for _, sub := range tree.Sub {
		n += instructions(sub)
	}
	switch tree.Op {
	case syntax.OpLiteral:
		n = len(tree.Rune)
	case syntax.OpRepeat:
		n = max(tree.Min, tree.Max, 1) * (n + 1)
	case syntax.OpAlternate, syntax.OpCapture:
		n += len(tree.Sub) + 1
	case syntax.OpConcat:
	default:
		n++
	}
	return min(n, 1<<30)
}
