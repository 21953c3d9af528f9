/* Batches, as docs/abi.md has them: see vmffi.h. */
#include "vmffi.h"

#include <stdlib.h>
#include <string.h>

/* --- As they are made ------------------------------------------------------------------------- */

struct vm_batch vm_batch(void)
{
    struct vm_batch batch = {.block = vm_new(VM_BATCH_ROOM * VM_ENTRY)};
    if (batch.block == 0) abort();
    return batch;
}

static unsigned put(struct vm_batch *batch, uint64_t word, uint64_t primary, uint64_t secondary)
{
    const uint64_t words[3] = {word, primary, secondary};
    if (batch->count == VM_BATCH_ROOM) abort();
    memcpy(vm_base + batch->block + batch->count * VM_ENTRY, words, VM_ENTRY);
    return batch->count++;
}

unsigned vm_add(struct vm_batch *batch, uint64_t signature, uint64_t primary, uint64_t secondary)
{
    unsigned entry = put(batch, signature, primary, secondary);
    batch->loans[entry] = vm_going;
    vm_going.count = 0;
    return entry;
}

void vm_take(struct vm_batch *batch, unsigned entry, uint32_t offset, uint32_t size)
{
    put(batch, 0, entry, offset | (uint64_t)size << 32);
}

uint64_t vm_send(struct vm_batch *batch)
{
    uint64_t len = (uint64_t)batch->count * VM_ENTRY;
    vm_going.count = 0;
    struct vm_answer got = vm_call(VM_BATCH, batch->block, len); /* BT-5: loan 0 */
    vm_free(batch->block);
    const uint8_t *bytes = vm_bytes(got.primary, len, 1);
    if (got.status == VM_OK && len != 0 && (got.secondary != len || bytes == NULL))
        got.status = VM_PROTOCOL;
    for (unsigned i = 0; i < batch->count; i++) {
        uint64_t words[3] = {got.status, 0, 0};
        if (got.status == VM_OK) memcpy(words, bytes + i * VM_ENTRY, VM_ENTRY);
        batch->answers[i] = (struct vm_answer){words[0], words[1], words[2]};
        if (!vm_consumed(words[0])) vm_take_back(&batch->loans[i]); /* BT-2, BT-4 */
    }
    if (got.status == VM_OK && len != 0) vm_release(got.primary);
    return got.status;
}

/* --- As they are served ----------------------------------------------------------------------- */

/* The results that the next call takes (BT-6). */
struct taken {
    unsigned count, fields;
    bool alone;
    uint64_t primary, failed;
    struct { uint32_t offset, size; uint64_t value; } field[VM_MAX_TAKEN];
};
/* Those of the call under way, or NULL. Its parameters are copied before it calls anything. */
static const struct taken *taking;

static uint64_t take(struct taken *taken, const struct vm_answer *answers, uint64_t nr,
                     const uint64_t *words)
{
    uint32_t offset = (uint32_t)words[2], size = (uint32_t)(words[2] >> 32);
    bool sized = size == 1 || size == 2 || size == 4 || size == 8;
    /* BT-7 */
    taken->count++;
    if (words[1] >= nr || taken->count > VM_MAX_TAKEN) return VM_BAD_VALUE;
    if (words[2] != 0 && !sized) return VM_BAD_VALUE;
    const struct vm_answer *from = &answers[words[1]];
    if (from->status != VM_OK || from->secondary != 0) return VM_CANCELLED;
    if (words[2] == 0) {
        taken->alone = true;
        taken->primary = from->primary;
    } else {
        taken->field[taken->fields].offset = offset;
        taken->field[taken->fields].size = size;
        taken->field[taken->fields++].value = from->primary;
    }
    return VM_OK;
}

static struct vm_answer serve(const struct taken *taken, const uint64_t *words)
{
    struct vm_answer refused = {taken->failed, 0, 0};
    uint64_t primary = taken->alone ? taken->primary : words[1], secondary = words[2];
    if (words[0] < 16) refused.status = VM_UNKNOWN_FUNCTION; /* BT-3 */
    if (refused.status == VM_OK && taken->fields != 0 && secondary != 0)
        refused.status = VM_BAD_VALUE; /* BT-8 */
    if (refused.status != VM_OK) return refused;
    /* What no function without a parameter struct accepts. */
    if (taken->fields != 0) secondary = UINT64_MAX;
    taking = taken;
    vm_going.count = 0;
    struct vm_answer answer = vm_serve(words[0], primary, secondary);
    taking = NULL;
    if (answer.status > VM_APP) vm_take_back(&vm_going);
    vm_going.count = 0;
    return answer;
}

struct vm_answer vm_serve_batch(uint64_t primary, uint64_t secondary)
{
    const uint64_t count = secondary / VM_ENTRY;
    /* BT-1, BT-4 */
    if (secondary % VM_ENTRY != 0) return (struct vm_answer){VM_BAD_VALUE, 0, 0};
    if (secondary == 0) return (struct vm_answer){VM_OK, 0, 0};
    const uint8_t *bytes = vm_bytes(primary, secondary, 8);
    if (bytes == NULL) return (struct vm_answer){VM_BAD_POINTER, 0, 0};
    uint64_t block = vm_new(secondary);
    if (block == 0) return (struct vm_answer){VM_OUT_OF_MEMORY, 0, 0};
    struct vm_answer *answers = (struct vm_answer *)(vm_base + block);
    struct taken taken = {0};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t words[3];
        memcpy(words, bytes + i * VM_ENTRY, VM_ENTRY); /* BT-5 */
        if (words[0] == 0) {
            uint64_t status = take(&taken, answers, i, words);
            if (taken.failed == VM_OK) taken.failed = status;
            answers[i] = (struct vm_answer){status, 0, 0};
            if (status == VM_OK) answers[i].primary = answers[words[1]].primary;
        } else {
            answers[i] = serve(&taken, words);
            taken = (struct taken){0};
        }
    }
    vm_release(primary);
    return (struct vm_answer){VM_OK, vm_lend(block), secondary};
}

uint64_t vm_parameters(uint64_t primary, uint64_t secondary, void *copy, uint64_t size, uint64_t align)
{
    const struct taken *taken = taking;
    bool takes = taken != NULL && taken->fields != 0;
    if (takes ? secondary != UINT64_MAX : secondary != 0) return VM_BAD_VALUE;
    const uint8_t *bytes = vm_bytes(primary, size, align);
    if (bytes == NULL) return VM_BAD_POINTER;
    memcpy(copy, bytes, size);
    vm_release(primary);
    for (unsigned i = 0; takes && i < taken->fields; i++) {
        uint64_t offset = taken->field[i].offset, len = taken->field[i].size;
        if (offset + len > size) return VM_BAD_VALUE;
        memcpy((uint8_t *)copy + offset, &taken->field[i].value, len);
    }
    return VM_OK;
}
