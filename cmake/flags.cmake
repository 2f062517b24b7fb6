# Warnings are errors; asserts stay on in every build; never -ffast-math (it deletes NaN checks).
add_library(osae_flags INTERFACE)
target_compile_definitions(osae_flags INTERFACE _GNU_SOURCE OSAE_VERSION="${PROJECT_VERSION}")
target_compile_options(osae_flags INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wvla -Wundef -Wformat=2 -Wconversion
  -Wdouble-promotion -Wcast-qual -Wpointer-arith -Wwrite-strings -Wstrict-prototypes
  -Wmissing-prototypes -fno-common -fno-math-errno -fno-trapping-math -g
  -Wno-psabi) # vectors wider than the machine's stay inside one file: no ABI to change
# At -O3 gcc inlines across TRY without knowing that a FAIL is never OK, and suspects outputs that every
# path sets; the dev build (-O1) keeps the warning.
target_compile_options(osae_flags INTERFACE $<$<CONFIG:Release>:-Wno-maybe-uninitialized>)
if(OSAE_MARCH)
  target_compile_options(osae_flags INTERFACE -march=${OSAE_MARCH})
endif()
set(CMAKE_C_FLAGS_RELEASE "-O3")
set(CMAKE_C_FLAGS_DEBUG "-O1 -fno-omit-frame-pointer")

if(OSAE_SANITIZE STREQUAL "address")
  target_compile_options(osae_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(osae_flags INTERFACE -fsanitize=address,undefined)
elseif(OSAE_SANITIZE STREQUAL "thread")
  target_compile_options(osae_flags INTERFACE -fsanitize=thread)
  target_link_options(osae_flags INTERFACE -fsanitize=thread)
endif()
if(OSAE_FUZZ) # clang; gcc's warnings are the ones that are errors, and clang's differ in enums and simd
  target_compile_options(osae_flags INTERFACE -fsanitize=fuzzer-no-link -w)
endif()
