/* Batches that the guest makes, good and bad, as docs/abi.md says that they look. */
#include "declarations.h"

#include <string.h>

/* The parameters of Desk::fill, which are taken in part. */
static uint64_t fill(uint64_t len, uint8_t byte)
{
    uint64_t block = vm_new(16);
    struct vm_form f = form(block);
    VM_PUT(&f, uint64_t, len);
    VM_PUT(&f, uint8_t, byte);
    return block;
}

static bool is(const struct vm_answer *got, uint64_t status, uint64_t primary)
{
    return got->status == status && got->primary == primary && got->secondary == 0;
}

/* ABI, Batches BT-1 to BT-7: calls in their order, each with a status and loans of its own; results that are taken. */
void test_batches(void)
{
    struct vm_batch batch = vm_batch();
    vm_add(&batch, Next_u64.signature, 41, 0);
    vm_add(&batch, Next_i8.signature, (uint64_t)-128, 0);
    vm_add(&batch, Desk_panic.signature, 0, 0);
    vm_add(&batch, Desk_refuse.signature, 0, 0);
    vm_add(&batch, Desk_count.signature, vm_lend_bytes("abc", 3), 3);
    unsigned bad = vm_add(&batch, UINT64_C(0xdeadbeef), vm_lend_bytes("comes back", 10), 10);
    for (uint64_t word = 1; word < 16; word++) vm_add(&batch, word, batch.block, VM_ENTRY);
    vm_take(&batch, 0, 0, 0);
    unsigned next = vm_add(&batch, Next_u64.signature, 0, 0);
    uint64_t block = fill(UINT64_MAX, 7), loan = vm_lend(fill(0, 0));
    vm_take(&batch, next, 0, 8);
    unsigned filled = vm_add(&batch, Desk_fill.signature, block, 0);
    vm_take(&batch, 0, 0, 8);
    vm_take(&batch, next, 8, 1);
    unsigned loaned = vm_add(&batch, Desk_fill.signature, loan, 0);
    vm_take(&batch, bad, 0, 0);
    unsigned cancelled = vm_add(&batch, Next_u64.signature, 0, 0);
    uint64_t status = vm_send(&batch);
    const struct vm_answer *got = batch.answers;
    report(status == VM_OK, "a batch: status %lu", status);
    report(is(&got[0], VM_OK, 42) && is(&got[1], VM_OK, (uint64_t)-127), "... scalars");
    report(is(&got[2], VM_PANICKED | VM_REACHED, 0) && is(&got[3], VM_REFUSED | VM_REACHED, 0),
           "... a panic and a refusal, which keep no other call from being made");
    report(is(&got[4], VM_OK, 'a' + 'b' + 'c'), "... a buffer");
    bool right = true;
    for (unsigned i = 0; i < 16; i++) right &= is(&got[bad + i], VM_UNKNOWN_FUNCTION, 0);
    report(right, "... an unknown function, and reserved ones, a batch among them (BT-3)");
    report(is(&got[next - 1], VM_OK, 42) && is(&got[next], VM_OK, 43), "... a result for a transport");
    const unsigned fills[] = {filled, loaned};
    const uint8_t bytes[] = {7, 43};
    for (unsigned i = 0; i < 2; i++) {
        const struct vm_answer *one = &got[fills[i]];
        const uint8_t *result = vm_bytes(one->primary, one->secondary, 1);
        right = one->status == VM_OK && one->secondary == 43u - i && result != NULL;
        for (unsigned b = 0; right && b < one->secondary; b++) right = result[b] == bytes[i];
        if (right) vm_release(one->primary);
        report(right, "... %s in a parameter struct", i == 0 ? "a result" : "two results");
    }
    report(is(&got[cancelled - 1], VM_CANCELLED, 0) && is(&got[cancelled], VM_CANCELLED, 0),
           "... no call with the result of one that failed");
    vm_free(block);
    report(vm_in_use() == 0, "... and all is given back");

    batch = vm_batch();
    status = vm_send(&batch);
    report(status == VM_OK && vm_in_use() == 0, "an empty batch");
}

/* ABI, Batches BT-1, BT-7 and BT-8: what is no batch, and what cannot be taken. */
void hostile_batches(void)
{
    const uint64_t a = vm.guest_arena, len = vm.guest_len;
    static const struct { uint64_t at, len, status; } all[] = {
        {0, 1, 4}, {0, 23, 4}, {0, 25, 4}, {0, UINT64_MAX, 4}, {4, 24, 3}, {1, 48, 3},
    };
    bool right = true;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        right &= vm_call(VM_BATCH, a + all[i].at, all[i].len).status == all[i].status;
    right &= vm_call(VM_BATCH, a + len - 16, 24).status == VM_BAD_POINTER;
    right &= vm_call(VM_BATCH, vm.host_arena, 24).status == VM_BAD_POINTER;
    right &= vm_call(VM_BATCH, a, (len / 24 + 1) * 24).status == VM_BAD_POINTER;
    report(right, "no batch: half an entry, or not in the arena");

    static const struct { uint32_t from, offset, size; uint64_t status; } takes[] = {
        {1, 0, 0, 4}, {2, 0, 0, 4}, {9, 0, 0, 4}, {0, 1, 0, 4}, {0, 0, 3, 4}, {0, 0, 16, 4},
        {0, 16, 1, 4}, {0, 9, 8, 4}, {0, UINT32_MAX, 8, 4}, {0, 8, 8, 0},
    };
    for (unsigned i = 0; i < sizeof takes / sizeof *takes; i++) {
        struct vm_batch batch = vm_batch();
        uint64_t block = fill(1, 1);
        vm_add(&batch, Next_u64.signature, 1, 0);
        vm_take(&batch, takes[i].from, takes[i].offset, takes[i].size);
        vm_add(&batch, Desk_fill.signature, block, 0);
        right = vm_send(&batch) == VM_OK && batch.answers[2].status == takes[i].status;
        if (batch.answers[2].status == VM_OK) vm_release(batch.answers[2].primary);
        vm_free(block);
        report(right && vm_in_use() == 0, "a result of %u at %u with %u bytes: status %lu",
               takes[i].from, takes[i].offset, takes[i].size, batch.answers[2].status);
    }
}
