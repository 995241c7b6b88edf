// Package console is what the verbs of both programs share: how a command tree
// runs, how its errors are said and turned into exit codes, where the values of
// flags come from, how a passphrase is asked for, and how output is written.
//
// It knows no verb, no chain and no network. The command trees of mman and
// mman-node call it, and nothing else.
//
// Invariants: an error is one sentence on standard error, and with -o json one
// object on standard output too; a flag that is not on the command line takes
// its value from the environment, else from the config file, else its default;
// unknown flags and keys are refused; what strangers wrote cannot steer the
// terminal; nothing but the final answer goes to standard output.
package console
