package client

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market/policy"
)

func (a *app) policy() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "policy", Short: "Try a policy before it goes into an offer",
		Example: "  mman policy check policy.yaml --against request.yaml",
	}, a.policyCheck(), a.policyWords())
}

// policyAnswer is what a policy is, and what it says in a situation.
type policyAnswer struct {
	File  string `json:"file"`
	Rules int    `json:"rules"`
	// Cost is the worst cost of an evaluation in steps, of MaxCost.
	Cost    uint64 `json:"cost"`
	MaxCost uint64 `json:"max_cost"`
	// Schema is the version of the words.
	Schema      int                 `json:"schema"`
	Obligations []policy.Obligation `json:"obligations,omitempty"`
	Phase       policy.Phase        `json:"phase,omitempty"`
	Answer      *policy.Answer      `json:"answer,omitempty"`
	Verdicts    []policy.Verdict    `json:"verdicts,omitempty"`
}

func (a *app) policyCheck() *cobra.Command {
	against := ""
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Check a policy, and say rule by rule what it answers",
		Long: `Check a policy without a network. With --against it is asked about a situation
in YAML; what the situation leaves out is not known:

  phase: match            # or run
  consumer: man1…
  reputation: 70
  request: {purpose: research, cap: 1MAN, blocks: 600, wall: 60s, accepts: [no_training]}
  algorithm: {supplied: true, attributes: {licence: MIT}}
  compute: {region: eu-west}
  data: [{sealed: true, region: eu-north}]
  chain: {height: 500, time: 2026-01-05T10:00:00Z}
  usage: {open: 0, leases_1d: 0, leases_7d: 2, leases_30d: 5}
  run: {calls: 1, output_bytes: 0}

It exits 3 when the policy denies. 'mman policy words' lists what a condition may
read.`,
		Example: "  mman policy check policy.yaml\n  mman policy check policy.yaml --against request.yaml -o json",
		Args:    console.Args(1, 1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, program, err := loadPolicy(args[0])
			if err != nil {
				return err
			}
			answer := policyAnswer{
				File: args[0], Rules: len(p.Rules), Cost: program.Cost(), MaxCost: policy.MaxCost,
				Schema: policy.SchemaVersion, Obligations: p.Obligations,
			}
			lines := []string{console.Clean(fmt.Sprintf("%s is a valid policy: %d rules, at most %d of %d steps.", args[0], answer.Rules, answer.Cost, answer.MaxCost))}
			if against == "" {
				return a.answer(answer, lines...)
			}
			return a.ask(p, program, against, answer, lines)
		},
	}
	cmd.Flags().StringVar(&against, "against", "", "file with a situation to ask the policy about")
	return cmd
}

// ask evaluates the policy in a situation.
func (a *app) ask(p policy.Policy, program *policy.Program, path string, answer policyAnswer, lines []string) error {
	text, err := readSmall(path)
	if err != nil {
		return err
	}
	situation, err := policy.ParseSituation(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c, err := situation.Context(p)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	said := program.Decide(c)
	answer.Phase, answer.Answer, answer.Verdicts = c.Phase, &said, program.Explain(c)
	var rows [][]string
	for _, v := range answer.Verdicts {
		facts := make([]string, len(v.Facts))
		for i, f := range v.Facts {
			facts[i] = f.Word + " = " + f.Value
		}
		why := strings.Join(facts, ", ")
		if v.Reason != "" {
			why = strings.TrimPrefix(why+"; "+v.Reason, "; ")
		}
		rows = append(rows, []string{v.Rule, string(v.Effect), string(v.Phase), v.Applies, why})
	}
	if len(rows) > 0 {
		lines = append(lines, table([]string{"RULE", "EFFECT", "PHASE", "APPLIES", "WHY"}, rows)...)
	}
	lines = append(lines, console.Clean(sentence(said)))
	if err := a.answer(answer, lines...); err != nil {
		return err
	}
	if !said.Allowed() {
		return console.Said(fmt.Errorf("%w: rule %q", mman.ErrPolicy, said.Rule))
	}
	return nil
}

// sentence says an answer in words.
func sentence(s policy.Answer) string {
	text := fmt.Sprintf("Answer: %s, by rule %q", s.Effect, s.Rule)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	if len(s.Residual) > 0 {
		text += "; while the work runs these are decided: " + strings.Join(s.Residual, ", ")
	}
	if len(s.Obligations) > 0 {
		names := make([]string, len(s.Obligations))
		for i, o := range s.Obligations {
			names[i] = o.String()
		}
		text += "; the consumer takes on " + strings.Join(names, ", ")
	}
	return text + "."
}

func (a *app) policyWords() *cobra.Command {
	return &cobra.Command{
		Use: "words", Short: "List the words that a condition may read",
		Example: "  mman policy words",
		Args:    console.Args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			type entry struct {
				Word  string `json:"word"`
				Kind  string `json:"kind"`
				About string `json:"about"`
			}
			answer := struct {
				Schema int     `json:"schema"`
				Words  []entry `json:"words"`
			}{Schema: policy.SchemaVersion}
			var rows [][]string
			for _, w := range policy.Words() {
				e := entry{w.Name, w.Kind.String(), w.About}
				answer.Words = append(answer.Words, e)
				rows = append(rows, []string{e.Word, e.Kind, e.About})
			}
			lines := table([]string{"WORD", "IS", "ABOUT"}, rows)
			return a.answer(answer, append(lines, "Schema version "+strconv.Itoa(answer.Schema)+".")...)
		},
	}
}

func loadPolicy(path string) (policy.Policy, *policy.Program, error) {
	text, err := readSmall(path)
	if err != nil {
		return policy.Policy{}, nil, err
	}
	p, err := policy.ParseYAML(text)
	if err != nil {
		return p, nil, fmt.Errorf("%s: %w", path, err)
	}
	program, err := p.Compile()
	return p, program, err
}

// readSmall reads a file that a person wrote. One byte more than allowed is
// enough for the parser to refuse it.
func readSmall(path string) (text []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrNotFound, err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err = io.ReadAll(io.LimitReader(f, policy.YAMLMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	return text, nil
}
