package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	mman "github.com/limboid/massive-man"
)

// What is different in Podman, which speaks Docker's API:
//
//   - a container's runtime cannot be chosen by it, so that gVisor is only what runs
//     everything there;
//   - a program that has ended has no number any more, so that nothing tells one that
//     never began from one that ended with 127: it is billed as the latter;
//   - it does not tell that memory was refused, so that a program that signal 9 ended
//     counts as one that reached its limit;
//   - the usual seccomp profile lets programs mount and make user namespaces.

// podmanEngine is how Podman names itself among its components.
const podmanEngine = "Podman Engine"

// profileFile is our seccomp profile in the executor's folder.
const profileFile = "seccomp.json"

// profiles are where Podman's own lies, what an administrator wrote first.
func profiles() []string {
	return []string{"/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"}
}

// withheld are the calls of Podman's usual profile that programs do not get here: what
// Docker's gives an administrator only.
func withheld() []string {
	return []string{
		"add_key", "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr", "move_mount",
		"open_tree", "pivot_root", "request_key", "setns", "umount", "umount2", "unshare",
	}
}

// namespaces are the flags of clone that make any.
const namespaces = 0x7e020000

// restrict reads the first of the profiles that there is and takes from it what is
// withheld. Without one programs would have every call, so that nothing runs.
func restrict(paths []string) ([]byte, error) {
	for _, path := range paths {
		b, err := os.ReadFile(path) //nolint:gosec // of the engine's
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: Podman's seccomp profile: %w", mman.ErrDenied, err)
		}
		if b, err = tighten(b); err != nil {
			return nil, fmt.Errorf("%w: Podman's seccomp profile %s: %w", mman.ErrUnsupported, path, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("%w: Podman's seccomp profile is at none of %v; install containers-common (Debian: golang-github-containers-common)", mman.ErrUnsupported, paths)
}

// errProfile says that a profile is not one that is understood.
var errProfile = errors.New("it is not a list of what is allowed")

func tighten(b []byte) ([]byte, error) {
	var profile map[string]any
	if err := json.Unmarshal(b, &profile); err != nil {
		return nil, err
	}
	calls, ok := profile["syscalls"].([]any)
	if !ok || profile["defaultAction"] != "SCMP_ACT_ERRNO" {
		return nil, errProfile
	}
	kept := []any{map[string]any{
		"names": []string{"clone"}, "action": "SCMP_ACT_ALLOW",
		"args": []any{map[string]any{"index": 0, "value": namespaces, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}},
	}}
	for _, one := range calls {
		rule, ok := one.(map[string]any)
		if !ok {
			return nil, errProfile
		}
		names, ok := rule["names"].([]any)
		if !ok {
			return nil, errProfile
		}
		if rule["action"] == "SCMP_ACT_ALLOW" {
			rule["names"] = slices.DeleteFunc(names, func(name any) bool {
				text, _ := name.(string) // what is no text names no call
				return text == "clone" || slices.Contains(withheld(), text)
			})
		}
		kept = append(kept, rule)
	}
	profile["syscalls"] = kept
	return json.Marshal(profile)
}
