package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
)

// maxCards bounds what is looked at: no machine has more.
const maxCards = 64

// vendors names those of the PCI ids that the kernel shows.
func vendors() map[string]string {
	return map[string]string{"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
}

// Detect returns the vendor of each graphics processor of the machine whose file system
// is root, sorted: nvidia, amd or intel. It looks at sys/class/drm and, for NVIDIA's
// driver without it, at proc/driver/nvidia/gpus. A display of another maker, such as a
// virtual one, is none. A machine without any is no error.
func Detect(root fs.FS) ([]string, error) {
	cards, err := list(root, "sys/class/drm")
	if err != nil {
		return nil, err
	}
	var found []string
	nvidia := 0
	for _, card := range cards {
		number, ok := strings.CutPrefix(card, "card")
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
			continue // a connector of a card
		}
		id, err := fs.ReadFile(root, "sys/class/drm/"+card+"/device/vendor")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("graphics processor %s: %w: %w", card, mman.ErrDenied, err)
		}
		vendor, ok := vendors()[strings.TrimSpace(string(id))]
		if !ok {
			continue
		}
		if vendor == "nvidia" {
			nvidia++
		}
		found = append(found, vendor)
	}
	driven, err := list(root, "proc/driver/nvidia/gpus")
	if err != nil {
		return nil, err
	}
	for range len(driven) - nvidia {
		found = append(found, "nvidia")
	}
	slices.Sort(found)
	return found, nil
}

func list(root fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("graphics processors: %w: %w", mman.ErrDenied, err)
	}
	var names []string
	for _, e := range entries[:min(len(entries), maxCards)] {
		names = append(names, e.Name())
	}
	return names, nil
}
