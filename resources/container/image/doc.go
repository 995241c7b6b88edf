// Package image reads and writes archives of container images: what docker save
// writes and OCI layouts in a tar file.
//
// Build makes a reproducible archive from a folder or a static binary. Open looks
// at an archive that a stranger brought, checks every digest and bound in it, and
// writes it anew without names, volumes, health checks or anything else that an
// engine would act on. It knows no engine and no network.
package image
