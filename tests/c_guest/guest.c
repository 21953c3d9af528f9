/* A guest in plain C: usage `guest REGION MODE [HOW]`, where REGION is the descriptor of the memory
 * that it shares with its host. Prints a line for each case. */
#define _GNU_SOURCE /* MAP_FIXED_NOREPLACE */
#include "declarations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

const char *bad_habit = "";
struct vm_answer lie;

static struct vm_answer answer(uint64_t status, uint64_t primary, uint64_t secondary)
{
    return (struct vm_answer){status, primary, secondary};
}

/* --- What the guest serves -------------------------------------------------------------------- */

static struct vm_answer nothing(uint64_t primary, uint64_t secondary)
{
    /* PS-1 */
    return answer(primary == 0 && secondary == 0 ? VM_OK : VM_BAD_VALUE, 0, 0);
}

/* A parameter struct (PS-3, PS-4): copied, released, and then validated. */
static struct vm_answer add(uint64_t primary, uint64_t secondary)
{
    uint64_t copy[2];
    uint64_t status = vm_parameters(primary, secondary, copy, sizeof copy, 8);
    if (status != VM_OK) return answer(status, 0, 0);
    struct vm_form parameters = {(uint8_t *)copy, 0};
    uint32_t a = VM_GET(&parameters, uint32_t);
    uint64_t b = VM_GET(&parameters, uint64_t);
    return answer(VM_OK, a + b, 0);
}

/* A buffer: a status that is not 0, or its bytes (C-3, C-5). */
static uint64_t buffer(uint64_t primary, uint64_t secondary, const uint8_t **bytes)
{
    *bytes = NULL;
    if (secondary == 0) return VM_OK; /* T-4 */
    *bytes = vm_bytes(primary, secondary, 1);
    return *bytes == NULL || primary >> 56 == 0 ? VM_BAD_POINTER : VM_OK;
}

static struct vm_answer total(uint64_t primary, uint64_t secondary)
{
    const uint8_t *bytes;
    uint64_t sum = 0, status = buffer(primary, secondary, &bytes);
    if (status != VM_OK) return answer(status, 0, 0);
    for (uint64_t i = 0; i < secondary; i++) sum += bytes[i];
    if (secondary != 0) vm_release(primary);
    return answer(VM_OK, sum, 0);
}

static struct vm_answer shout(uint64_t primary, uint64_t secondary)
{
    const uint8_t *bytes;
    uint64_t status = buffer(primary, secondary, &bytes);
    if (status != VM_OK || secondary == 0) return answer(status, 0, 0);
    uint64_t block = vm_new(secondary);
    if (block == 0) return answer(VM_OUT_OF_MEMORY | VM_REACHED, 0, 0);
    for (uint64_t i = 0; i < secondary; i++)
        vm_base[block + i] = bytes[i] >= 'a' && bytes[i] <= 'z' ? bytes[i] - 32 : bytes[i];
    vm_release(primary);
    return answer(VM_OK, vm_lend(block), secondary);
}

static struct vm_answer maybe(uint64_t primary, uint64_t secondary)
{
    const uint8_t *bytes;
    if (primary == 0 && secondary != 0) return answer(VM_BAD_VALUE, 0, 0); /* TY-10 */
    uint64_t status = buffer(primary, secondary, &bytes);
    if (status != VM_OK) return answer(status, 0, 0);
    if (secondary != 0) vm_release(primary);
    uint64_t block = vm_new(8);
    struct vm_form option = form(block); /* TY-11 */
    VM_PUT(&option, uint32_t, primary != 0);
    VM_PUT(&option, uint32_t, primary != 0 ? (uint32_t)secondary : 0);
    return answer(VM_OK, vm_lend(block), 0);
}

static struct vm_answer halve(uint64_t primary, uint64_t secondary)
{
    int32_t number = (int32_t)primary;
    if (secondary != 0 || (uint64_t)(int64_t)number != primary) return answer(VM_BAD_VALUE, 0, 0);
    if (number % 2 != 0) return answer(VM_APP, 2, 0); /* OpenError::Denied */
    return answer(VM_OK, (uint64_t)(int64_t)(number / 2), 0);
}

/* Reads a number of a packed value, which has no alignment (PK-2). */
static uint64_t number_at(const uint8_t *bytes, unsigned size)
{
    uint64_t number = 0;
    memcpy(&number, bytes, size);
    return number;
}

/* Finds a record in a list, and sends a list of it: PK-1 to PK-5. */
static struct vm_answer largest(uint64_t primary, uint64_t secondary)
{
    enum { LIST = 16, RECORD = 24 };
    const uint8_t *bytes, *found = NULL;
    uint64_t status = buffer(primary, secondary, &bytes);
    if (status != VM_OK) return answer(status, 0, 0);
    const struct vm_answer bad = {VM_BAD_VALUE | VM_REACHED, 0, 0};
    if (secondary < LIST || number_at(bytes + 8, 8) != secondary - LIST) return bad;
    uint64_t left = secondary - LIST, size = 0, count = number_at(bytes, 8);
    const uint8_t *at = bytes + LIST;
    for (; count > 0; count--) {
        if (left < RECORD) return bad;
        uint64_t name = number_at(at, 8), body = number_at(at + 16, 8);
        if (name > left - RECORD || body > left - RECORD - name) return bad;
        if (found == NULL || number_at(at + 8, 4) > number_at(found + 8, 4))
            found = at, size = RECORD + name + body;
        at += RECORD + name + body;
        left -= RECORD + name + body;
    }
    uint64_t block = left == 0 ? vm_new(LIST + size) : 0;
    if (block == 0) return bad;
    const uint64_t list[2] = {found != NULL, size};
    memcpy(vm_base + block, list, LIST);
    if (found != NULL) memcpy(vm_base + block + LIST, found, size);
    vm_release(primary);
    return answer(VM_OK, vm_lend(block), LIST + size);
}

/* What a hypercall comes to that is one too deep, and is made all the same (N-2). */
static uint64_t too_deep;

static struct vm_answer climb(uint64_t primary, uint64_t secondary)
{
    if (secondary != 0 || primary > UINT32_MAX) return answer(VM_BAD_VALUE, 0, 0);
    if (primary == 0) {
        struct vm_words words = {VM_CALL, Vectors_nothing.signature, 0, 0};
        if (vm_depth == VM_MAX_DEPTH) too_deep = vm_trap(words).word;
        return answer(VM_OK, 0, 0);
    }
    struct vm_answer got = call(&Desk_climb, primary - 1, 0);
    if (got.status != VM_OK) return answer(got.status | VM_REACHED, 0, 0);
    return answer(VM_OK, got.primary + 1, 0);
}

/* A variant with several values, and a time, each checked and changed. */
static struct vm_answer draw(uint64_t primary, uint64_t secondary)
{
    uint8_t copy[32];
    uint64_t status = vm_parameters(primary, secondary, copy, sizeof copy, 8);
    if (status != VM_OK) return answer(status, 0, 0);
    uint32_t length, nanos;
    uint16_t times;
    uint64_t seconds;
    memcpy(&length, copy + 4, 4), memcpy(&times, copy + 2, 2);
    memcpy(&seconds, copy + 16, 8), memcpy(&nanos, copy + 24, 4);
    bool line = copy[0] == 3 && copy[8] <= 1, dash = copy[0] == 4 && (copy[1] == 1 || copy[1] == 255);
    if (!(line || dash || copy[0] == 0) || nanos >= 1000000000) return answer(VM_BAD_VALUE, 0, 0);
    uint64_t block = vm_new(32);
    struct vm_form drawn = form(block);
    VM_PUT(&drawn, uint8_t, copy[0]);
    if (line) {
        VM_PUT(&drawn, uint8_t, copy[1] + 1);
        VM_PUT(&drawn, uint32_t, ~length);
        VM_PUT(&drawn, uint8_t, !copy[8]);
    } else if (dash) {
        VM_PUT(&drawn, int8_t, copy[1] == 1 ? -1 : 1);
        VM_PUT(&drawn, uint16_t, times + 1);
    }
    drawn.at = 16;
    VM_PUT(&drawn, uint64_t, seconds + 1);
    VM_PUT(&drawn, uint32_t, 999999999 - nanos);
    return answer(VM_OK, vm_lend(block), 0);
}

static struct vm_answer keep(uint64_t primary, uint64_t secondary)
{
    const uint8_t *bytes;
    return answer(buffer(primary, secondary, &bytes), 0, 0);
}

static struct vm_answer misbehaves(uint64_t primary, uint64_t secondary)
{
    (void)primary, (void)secondary;
    misbehave(bad_habit);
    return answer(VM_OK, 0, 0);
}

static struct vm_answer lies_about(uint64_t primary, uint64_t secondary)
{
    (void)primary, (void)secondary;
    return lie;
}

const struct vm_entry *served(void)
{
    static struct vm_entry all[32];
    const struct vm_entry entries[] = {
        {Plugin_nothing.signature, nothing}, {Plugin_add.signature, add},
        {Plugin_total.signature, total}, {Plugin_shout.signature, shout},
        {Plugin_maybe.signature, maybe}, {Plugin_halve.signature, halve},
        {Plugin_climb.signature, climb}, {Plugin_draw.signature, draw},
        {Plugin_keep.signature, keep}, {Plugin_largest.signature, largest},
        {Plugin_misbehave.signature, misbehaves}, {Liar_nothing.signature, lies_about},
        {Liar_truth.signature, lies_about}, {Liar_bytes.signature, lies_about},
        {Liar_stat.signature, lies_about}, {Liar_file.signature, lies_about},
        {Liar_level.signature, lies_about},
    };
    memcpy(all, entries, sizeof entries);
    return all;
}

/* ABI, Nesting N-1 and N-2: sixteen calls, hypercalls and upcalls in turn, and not one more. The
 * guest sees to it, and so does the host when the guest does not. */
void test_nesting(void)
{
    struct vm_answer got = call(&Desk_climb, 1, 0);
    report(got.status == VM_OK && got.primary == 1, "nested: an upcall in a hypercall");
    got = call(&Desk_climb, 15, 0);
    report(got.status == VM_OK && got.primary == 15, "nested: 16 deep, in turns");
    report(too_deep == VM_TOO_DEEP, "nested: the host refuses the 17th call, status %lu", too_deep);
    got = call(&Desk_climb, 16, 0);
    report(got.status == (VM_TOO_DEEP | VM_REACHED),
           "nested: the guest refuses the 17th call, which fails the other 16, status %lu",
           got.status);
    report(vm_depth == 0 && vm_in_use() == 0, "nested: nothing is left of it");
}

/* --- The program ------------------------------------------------------------------------------ */

static void connect(int descriptor, bool by_gate)
{
    struct stat file;
    struct vm_region region;
    if (fstat(descriptor, &file) != 0) perror("fstat"), exit(1);
    size_t mapped = (size_t)file.st_size;
    /* what the guest may not write, it cannot. */
    void *base = (void *)REGION;
    int shared = MAP_SHARED | MAP_FIXED_NOREPLACE;
    if (mmap(base, mapped, PROT_READ, shared, descriptor, 0) != base) perror("mmap"), exit(1);
    const char *refused = vm_header(base, mapped, &region);
    report(refused == NULL, "header: %s", refused ? refused : "as the host wrote it");
    if (refused != NULL) exit(1);
    uint64_t open = region.host_map, end = region.guest_arena + region.guest_len;
    if (mprotect((uint8_t *)base + open, end - open, PROT_READ | PROT_WRITE) != 0)
        perror("mprotect"), exit(1);
    void *page = (void *)(DOORBELL / VM_PAGE * VM_PAGE);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    if (mmap(page, VM_PAGE, PROT_NONE, flags, -1, 0) != page) perror("doorbell"), exit(1);
    sign();
    vm_entries = served();
    vm_connect(base, region, by_gate ? (struct vm_method){.gate = (uint64_t)gate}
                                     : (struct vm_method){.doorbell = DOORBELL});
}

int main(int count, char **arguments)
{
    if (count < 3) return 1;
    const char *mode = arguments[2];
    bool by_gate = strncmp(mode, "gate-", 5) == 0;
    if (by_gate) mode += 5;
    if (count > 3) bad_habit = arguments[3];
    connect(atoi(arguments[1]), by_gate);
    if (strcmp(mode, "misfit") == 0) meet(false);
    if (strcmp(mode, "hostile") != 0) { /* which never says what it is (CT-3) */
        uint64_t status = meet(true);
        report(status == VM_OK && vm_in_use() == 0, "contract: the two fit, status %lu", status);
    }

    if (strcmp(mode, "calls") == 0) {
        test_header(vm_base, vm.len);
        test_vectors();
        test_calls();
        test_results();
        test_nesting();
        test_batches();
        hostile_batches();
        test_registers(by_gate);
    } else if (strcmp(mode, "upcalls") == 0) {
        uint64_t status = vm_ready(); /* TR-17 */
        report(status == VM_OK, "parked, and let go");
        report(call(&Vectors_nothing, 0, 0).status == VM_OK, "a hypercall between");
        status = vm_ready();
        report(status == VM_OK, "parked again, and let go");
        /* TR-2: these words are not looked at. */
        struct vm_words back = vm_trap((struct vm_words){VM_READY, 1, 2, 3});
        report(back.kind == VM_ANSWER && back.word == VM_OK, "parked with other words");
        /* The block that `keep` has is never released: its loan ends with the guest. */
        vm_exit(wrong == 0 ? 7 : 1);
    } else if (strcmp(mode, "hostile") == 0) {
        hostile_calls();
        hostile_marks();
        lies();
    } else {
        /* Something that ends the guest, in a call or outside of any. */
        if (strcmp(mode, "behind-a-call") == 0) call(&Desk_climb, 0, 0);
        if (strcmp(mode, "in-upcall") == 0) call(&Desk_ask, 6, 0);
        if (strcmp(mode, "parked") == 0) vm_ready();
        misbehave(bad_habit);
        report(false, "%s did not end the guest", bad_habit);
    }
    vm_exit(wrong);
}
