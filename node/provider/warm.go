package provider

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
)

// AttributeREPL is the key of the attribute of an image that talks: its value is the
// word by which people ask for it, for example python.
const AttributeREPL = "repl"

// Warmer lets containers stand ready; *container.Executor is one.
type Warmer interface {
	Stand(images []container.Standing)
}

// standAgain is after how many blocks an image for which no container could be made
// is tried again.
const standAgain = 256

// standReady lets containers stand ready for the REPLs that this node lends.
func (p *Provider) standReady(_ context.Context, height uint64) error {
	if p.warm == nil {
		return nil
	}
	var want []container.Standing
	var said strings.Builder
	said.WriteString(strconv.FormatUint(height/standAgain, 10))
	all := p.holdings.all()
	for _, h := range all {
		if h.Withdrawn || h.Kind != resources.KindAlgorithm || h.Facet != resources.FacetContainer {
			continue
		}
		if !slices.ContainsFunc(h.Attributes, func(a resources.Attribute) bool { return a.Key == AttributeREPL }) {
			continue
		}
		for _, memory := range replMemory(all, h) {
			want = append(want, container.Standing{Image: h.Content, MemoryBytes: memory, Open: p.openHeld(h)})
			fmt.Fprintf(&said, " %s:%d", h.Content, memory)
		}
	}
	if p.stands != said.String() && (len(want) > 0 || strings.Contains(p.stands, ":")) {
		p.warm.Stand(want)
	}
	p.stands = said.String()
	return nil
}

// replMemory returns the memory limits of the leases of an image that ask for the
// usual one: a policy may allow less.
func replMemory(all []holding, image holding) (out []uint64) {
	for _, h := range all {
		if h.Withdrawn || h.Kind != resources.KindCompute || h.Facet != resources.FacetContainer {
			continue
		}
		memory := resources.DefaultLimits().MemoryBytes
		for _, limit := range []uint64{h.Policy.Limits.MemoryBytes, image.Policy.Limits.MemoryBytes} {
			if limit > 0 {
				memory = min(memory, limit)
			}
		}
		if !slices.Contains(out, memory) {
			out = append(out, memory)
		}
	}
	return out
}

// openHeld opens a content that this node holds.
func (p *Provider) openHeld(h holding) source {
	if h.Private {
		return contents{p: p}.local(p.stores.Private(), h.Content)
	}
	return contents{p: p}.public(h.Content)
}
