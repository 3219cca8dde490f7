// Included before each source file of QuickJS. Enables its stack check, which it disables on WASI: without it, deep recursion would
// overflow the host's stack and end the whole instance.

#include <assert.h>
#include <errno.h>
#include <fenv.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#undef __wasi__
// Makes QuickJS use malloc_usable_size, which WASI's malloc.h has like that of glibc.
#define __GLIBC__ 2
