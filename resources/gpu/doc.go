// Package gpu says which graphics processors a machine has, as the kernel shows them.
// It reads a few small files below a root that the caller names and opens no device.
package gpu
