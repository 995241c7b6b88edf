// Package environment is how one talks with an environment: a program that is reset
// and stepped, in batches, while somebody learns or plays in it. Names, shapes and
// meaning are Gymnasium's.
//
// An environment is a program like any other: it speaks frames on its standard
// output and hears frames on its standard input. First it says what it is (a Spec);
// then each Reset and each Step is answered, one at a time, until Close or the end of
// its input. docs/environments.md has the bytes.
//
// Referee stands between an environment and its user at the provider: what a user
// asks for is checked before the environment sees it, what the environment answers is
// checked before anybody sees that, and a step counts when it was answered. Client is
// the user's side; it counts too, so that nobody pays for steps that did not come.
//
// The environment gets its input one whole frame at a time and none before it has
// answered the one before. So what it does depends on what it is asked alone, and not
// on when: that is what lets a run be replayed.
//
// The package does no I/O of its own.
package environment
