// Package condition is the language of a policy rule's "when": a small, closed
// part of CEL over words that the caller declares, with its own parser, checker
// and evaluator.
//
// Whatever it accepts is CEL and means what CEL says; tests hold it against
// cel-go, which nothing but tests imports. It is our own because every node of a
// chain must accept the same texts and answer alike for ever: an upgrade of a
// foreign parser or checker, or a cache inside it that grows with what strangers
// send, would be a fork or a way to fill memory.
//
// There are ints of 64 bits, text, bools, and lists of ints or of text with at
// most 64 elements. There are ?:, ||, &&, ==, !=, <, <=, >, >=, in, +, -, *, /, %
// (of ints), !, size, startsWith, endsWith, contains, exists and all. What CEL
// has besides is refused with a sentence: floats, maps, messages, bytes, null,
// conversions, regular expressions, time zones, indexes, macros that build lists.
//
// An answer is true, false, unknown (it depends on a word that cannot be read
// yet) or failed (an overflow, a division by zero, a word beyond its bounds).
// For && and || a deciding side wins over both, then unknown over failed;
// elsewhere failed wins over unknown, because nothing can repair it.
//
// A text has at most 4096 bytes and nests at most 24 deep. Before anything runs,
// an integer count over the syntax tree under the words' declared sizes says
// what the worst evaluation costs; the caller caps it. Everything is a pure
// function of its arguments; a Condition may be shared.
package condition
