/* The scenes that torture.c plays while calls to the C library fail.  A scene makes no demands: it goes as far as it
 * can, gives everything back, and says whether all went as it should.  What may never be is refused with broken(). */
#ifndef TORTURE_SCENES_H
#define TORTURE_SCENES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct scene {
    const char *name;
    bool (*play)(const char *folder); /* an empty folder that is removed afterwards */
    bool own_only;                    /* libraries below (ggml, OpenMP) end the process without memory */
} scene;

extern const scene torture_scenes[];
extern const size_t torture_scene_count;

/* Ends the process with a message: a promise was broken. */
_Noreturn void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
