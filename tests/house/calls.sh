#!/usr/bin/env bash
# Calls that are not made: unbounded writes, numbers read without a check, global state, exits from the middle; and no
# look at the wall clock where processes act on time: an hour forth or back must change nothing (labels come from lib/base/tick).
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"

everywhere='sprintf|vsprintf|strcpy|strcat|stpcpy|gets|strtok|atoi|atol|atoll|atof|rand|srand|random|srandom|drand48|system'
check() {
    local file banned
    files_of "$1" | grep -E '\.(c|h|cu)$' | while IFS= read -r file; do
        banned=$everywhere
        case $file in */main.c | tests/* | bench/*) ;; *) banned=$banned'|exit|abort|quick_exit' ;; esac
        case $file in proto/* | producer/* | trainer/* | evaluator/*) banned=$banned'|time|gettimeofday|timespec_get|clock_gettime' ;; esac
        code_of "$1/$file" | grep -noE "(^|[^A-Za-z0-9_.>])($banned)[[:space:]]*\\(" |
            sed -E "s#^([0-9]+):[^A-Za-z0-9_]?([a-z0-9_]+)[[:space:]]*\\(#$file:\\1: calls \\2#" || true
    done
}
clean_tree() {
    plant lib/base/a.c 'int a(char *s) { /* sprintf( */ return snprintf(s, 3, "atoi(1)"); } // exit(1)\n'
    plant lib/base/b.c '/* strcpy(a, b)\n   exit(2) */\nvoid b(struct x *x) { _exit(1); x->rand(3); pthread_exit(0); }\n'
    plant front/main.c 'int main(void) { exit(3); }\n'
}
self_test() {
    catches 'lib/base/c.c:2: calls sprintf' lib/base/c.c 'void c(char *s) {\n    sprintf(s, "x");\n}\n'
    catches 'calls strcpy' trainer/c.c 'void c(char *s) { char q = '"'\\\\''"'; strcpy(s, "x"); }\n'
    catches 'calls atoi' proto/c.h '#define c(s) atoi (s)\n'
    catches 'calls rand' tests/c.c 'int c = 0; int f(void) { return rand(); }\n'
    catches 'calls time' proto/c.c 'long c(void) { return time(NULL); }\n'
    catches 'calls clock_gettime' trainer/c.c 'void c(void) { clock_gettime(CLOCK_REALTIME, &at); }\n'
    allows lib/base/c.c 'long c(void) { return time(NULL); }\n'
    allows proto/c.c 'long c(struct x *x) { return x->time(up_time(1)); }\n'
    catches 'calls exit' lib/kern/c.c 'void c(void) { if (1) exit(1); }\n'
    catches 'lib/kern/c.c:3: calls strtok' lib/kern/c.c '/* a\n*/\nchar *c(char *s) { return strtok(s, "/*"); }\n'
    allows lib/kern/c.c 'void c(void) { puts("exit(1) \\"rand()\\" "); }\n'
}
house_main
