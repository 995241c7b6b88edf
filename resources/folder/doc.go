// Package folder makes one content of a folder that a run reads, its pack: an archive
// of POSIX's tar with the folder's files in the order of their names and nothing of the
// machine in it, so that equal folders have equal packs. Executors mount it as a folder.
package folder
