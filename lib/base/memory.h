// memory: how much of it the machine could give now. Large takers ask before they take, because
// Linux promises more than it has and kills whoever believes it.
#ifndef LIB_BASE_MEMORY_H
#define LIB_BASE_MEMORY_H

// Bytes that Linux could hand out now without swapping; infinity where it does not say.
double memory_available(void);

#endif
