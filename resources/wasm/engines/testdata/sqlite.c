// A shell of SQLite: reads SQL from standard input, runs it on a database in memory,
// and writes rows, their columns divided by a bar, to standard output.
#include <sqlite3-binding.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The library asks its host for files, time and chance. Here are no files, and what
// is asked for beside is the same every time.
static int no_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out) {
    (void)vfs, (void)name, (void)flags, (void)out;
    file->pMethods = NULL;
    return SQLITE_CANTOPEN;
}

static int full_name(sqlite3_vfs *vfs, const char *name, int size, char *out) {
    (void)vfs;
    sqlite3_snprintf(size, out, "%s", name);
    return SQLITE_OK;
}

static int chance(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    memset(out, 7, (size_t)size);
    return size;
}

static int wait_for(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return microseconds;
}

static int now(sqlite3_vfs *vfs, sqlite3_int64 *out) {
    (void)vfs;
    *out = 212588237376000000 / 1000; // milliseconds since the epoch of Julian days
    return SQLITE_OK;
}

static sqlite3_vfs host = {
    .iVersion = 2, .szOsFile = sizeof(sqlite3_file), .mxPathname = 64, .zName = "none",
    .xOpen = no_file, .xFullPathname = full_name, .xRandomness = chance, .xSleep = wait_for, .xCurrentTimeInt64 = now,
};

int sqlite3_os_init(void) { return sqlite3_vfs_register(&host, 1); }

int sqlite3_os_end(void) { return SQLITE_OK; }

static int print_row(void *rows, int columns, char **values, char **names) {
    (void)names;
    for (int i = 0; i < columns; i++) printf("%s%s", i > 0 ? "|" : "", values[i] != NULL ? values[i] : "NULL");
    putchar('\n');
    ++*(long *)rows;
    return 0;
}

int main(void) {
    static char sql[1 << 20];
    sql[fread(sql, 1, sizeof sql - 1, stdin)] = '\0';
    sqlite3 *db;
    char *wrong = NULL;
    long rows = 0;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK || sqlite3_exec(db, sql, print_row, &rows, &wrong) != SQLITE_OK) {
        fprintf(stderr, "%s\n", wrong != NULL ? wrong : sqlite3_errmsg(db));
        return 1;
    }
    printf("%ld rows, %d changes, SQLite %s\n", rows, sqlite3_total_changes(db), sqlite3_libversion());
    return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}
