// Package resourcestest holds what the executors under resources/ must agree on:
// Run, the conformance suite that each driver passes with fixtures of its own,
// and two stand-ins for tests elsewhere, Content (blobs in memory) and Fake (an
// executor that plays a script).
//
// Only tests import it. It knows no driver.
package resourcestest
