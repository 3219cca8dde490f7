// Included before each of QuickJS's files, for it to look after its stack, which it leaves to the system on WASI: what is deeper
// than the host allows would end the whole instance.

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
// What else is asked of the system by that name: the size of what was allocated, which malloc.h has as glibc does.
#define __GLIBC__ 2
