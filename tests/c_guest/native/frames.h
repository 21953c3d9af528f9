/* Frames that are none (ABI, Traps TR-14). */
#ifndef FRAMES_H
#define FRAMES_H

#include "../declarations.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Where the words of a call are, twice, eight bytes apart. */
static _Alignas(VM_PAGE) uint64_t two_frames[VM_PAGE / 8];

/* A frame as it should be. */
static inline uint64_t good_frame(void)
{
    const struct vm_words words = {VM_CALL, Vectors_nothing.signature, 0, 0};
    memcpy(two_frames, &words, sizeof words);
    return (uint64_t)two_frames;
}

/* One that is not. */
static inline uint64_t bad_frame(const char *how)
{
    uint64_t frame = good_frame();
    if (strcmp(how, "that is not aligned") == 0) {
        memmove(two_frames + 1, two_frames, sizeof(struct vm_words));
        return frame + 8;
    }
    if (strcmp(how, "that is not there") == 0) return VM_PAGE;
    if (strcmp(how, "that the guest cannot write") != 0) abort();
    if (mprotect(two_frames, VM_PAGE, PROT_READ) != 0) abort();
    return frame;
}

#endif
