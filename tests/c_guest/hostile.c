/* A guest that sends what it must not, and the statuses that docs/abi.md demands for it. */
#include "declarations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A pointer word. */
#define W(offset, loan) ((offset) | (uint64_t)(loan) << 56)
/* Two 32-bit fields in one word of a wire form. */
#define LOW_HIGH(low, high) ((uint64_t)(low) | (uint64_t)(high) << 32)
/* The bits of a negative number. */
#define S(number) ((uint64_t)(int64_t)(number))

/* One call: what is sent, and what must come of it. */
struct row {
    const char *name;
    const struct vm_function *f;
    const char *field; /* the parameter or field that is bad, "-" for none */
    uint64_t primary, secondary, status;
    unsigned marks;    /* how many blocks the host releases */
    unsigned count;    /* how many of these words are written to the block `AT` first */
    uint64_t words[8];
};

#define WORDS(...) sizeof((uint64_t[]){__VA_ARGS__}) / 8, {__VA_ARGS__}
#define NONE 0, {0}

static unsigned marks(void)
{
    unsigned count = 0;
    uint8_t *map = vm_base + vm.guest_map;
    for (uint64_t i = 0; i < vm.guest_len / VM_GRANULE; i++) count += map[i] != 0, map[i] = 0;
    return count;
}

static void run(uint64_t at, const struct row *row)
{
    memcpy(vm_base + at, row->words, row->count * 8);
    marks();
    struct vm_words out = {VM_CALL, row->f->signature, row->primary, row->secondary};
    struct vm_words got = vm_trap(out);
    unsigned left = marks();
    bool right = got.kind == VM_ANSWER && got.word == row->status && left == row->marks;
    /* S-1 */
    if (got.word > VM_APP) right &= got.primary == 0 && got.secondary == 0;
    if (got.word == VM_OK && vm_bytes(got.primary, 1, 1)) vm_release(got.primary);
    report(right, "%s: %lu%s, %u released => %s%s%s(%s) %lu", row->name, got.word,
           got.word == row->status ? "" : " (not so)", left, row->f->interface,
           *row->f->name ? "::" : "", row->f->name, row->field, row->status);
}

/* ABI, Checks C-1 to C-8 and C-11, Transport T-3 and T-4, Pointers P-1 to P-5, Arenas and loans
 * A-5, Types TY-2 to TY-6 and TY-8 to TY-11, Parameter structs PS-1 and PS-3 to PS-6, Statuses
 * S-1, S-3 and S-4, Signatures SG-6 and SG-7, RegionLayout L-3, Contracts CT-2. */
void hostile_calls(void)
{
    static const struct vm_function none = {"-", "", 0, 0, 0xdeadbeef};
    static const struct vm_function has = {"-", "", 0, 0, VM_HAS}, meets = {"-", "", 0, 0, VM_HANDSHAKE};
    static const struct vm_function zero = {"-", "", 0, 0, 0}, fifteen = {"-", "", 0, 0, 15};
    static const struct vm_function sixteen = {"-", "", 0, 0, 16};
    const uint64_t block = vm_new(4096);
    const uint64_t a = vm.guest_arena, len = vm.guest_len, end = a + len, h = vm.host_arena;
    /* Where a wire form is written, the same as a loan, and four more blocks. */
    const uint64_t at = block, lent = W(at, 1);
    const uint64_t one = W(block + 1024, 11), two = W(block + 1088, 22);
    const uint64_t three = W(block + 1152, 33);
    const uint64_t text = W(block + 1216, 44);
    memcpy(vm_base + block + 1216, "ok\xff", 3);
    memset(vm_base + end - 16, 0, 16);
    const struct row rows[] = {
        /* C-1 */
        {"C-1 an unknown signature", &none, "-", 0, 0, 2, 0, NONE},
        {"SG-6 signature 0", &zero, "-", 0, 0, 2, 0, NONE},
        {"SG-6 signature 15", &fifteen, "-", 0, 0, 2, 0, NONE},
        {"SG-6 signature 16, with a handle", &sixteen, "-", one, 5, 2, 0, NONE},
        {"SG-7 HAS with a byte count", &has, "-", 1, 1, 4, 0, NONE},

        {"CT-2 HANDSHAKE with nothing there", &meets, "-", 0, 40, 3, 0, NONE},
        {"CT-2 HANDSHAKE across the arena's end", &meets, "-", W(end - 1, 1), 2, 3, 0, NONE},
        {"CT-2 HANDSHAKE in the host's arena", &meets, "-", W(h, 1), 2, 3, 0, NONE},

        /* C-2 */
        {"PS-1 a word for no parameter", &Vectors_nothing, "-", 1, 0, 4, 0, NONE},
        {"PS-1 a byte count for no parameter", &Vectors_nothing, "-", 0, 1, 4, 0, NONE},
        {"T-3 a scalar with a byte count", &Vectors_narrow, "value", 5, 1, 4, 0, NONE},
        {"T-3 an enum with a byte count", &Desk_flip, "level", 1, 1, 4, 0, NONE},
        {"T-3 a parameter struct with a byte count", &Vectors_read, "-", lent, 16, 4, 0, NONE},
        {"T-3 a u128 with a byte count", &Vectors_wide, "value", lent, 16, 4, 0, NONE},
        {"T-3 a struct with a byte count", &Desk_turn, "outer", lent, 1, 4, 0, NONE},
        {"T-3 a Foreign<Stat> with a byte count", &Desk_spot, "stat", lent, 16, 4, 0, NONE},
        {"T-3 an option with a byte count", &Desk_maybe_number, "number", lent, 8, 4, 0, NONE},
        {"TY-2 a word for a struct without bytes", &Desk_empty, "nothing", lent, 0, 4, 0, NONE},
        {"PS-3 a word for parameters without bytes", &Desk_units, "-", lent, 0, 4, 0, NONE},
        {"C-2 before C-3: both bad", &Vectors_wide, "value", 3, 3, 4, 0, NONE},

        /* C-3: a parameter struct of 16 bytes. Nothing is released (PS-6). */
        {"P-2 null", &Vectors_read, "-", 0, 0, 3, 0, NONE},
        {"P-2 null, with a loan", &Vectors_read, "-", W(UINT64_C(0), 9), 0, 3, 0, NONE},
        {"P-3 the word for an empty buffer", &Vectors_read, "-", 1, 0, 3, 0, NONE},
        {"C-3 in the header", &Vectors_read, "-", W(UINT64_C(16), 1), 0, 3, 0, NONE},
        {"C-3 in the host's release map", &Vectors_read, "-", W(vm.host_map, 1), 0, 3, 0, NONE},
        {"C-3 in the guest's release map", &Vectors_read, "-", W(vm.guest_map, 1), 0, 3, 0, NONE},
        {"C-3 before the arena", &Vectors_read, "-", W(a - 16, 1), 0, 3, 0, NONE},
        {"C-3 across the arena's beginning", &Vectors_read, "-", W(a - 8, 1), 0, 3, 0, NONE},
        {"C-3 across the arena's end", &Vectors_read, "-", W(end - 8, 1), 0, 3, 0, NONE},
        {"C-3 behind the arena", &Vectors_read, "-", W(end, 1), 0, 3, 0, NONE},
        {"P-4 in the host's arena", &Vectors_read, "-", W(h + 64, 1), 0, 3, 0, NONE},
        {"C-3 behind the region", &Vectors_read, "-", W(vm.len, 1), 0, 3, 0, NONE},
        {"C-3 far away", &Vectors_read, "-", W(UINT64_C(0xfffffffffff0), 1), 0, 3, 0, NONE},
        {"P-1 bit 48", &Vectors_read, "-", lent | UINT64_C(1) << 48, 0, 3, 0, NONE},
        {"P-1 bit 55", &Vectors_read, "-", lent | UINT64_C(1) << 55, 0, 3, 0, NONE},
        {"P-1 all bits", &Vectors_read, "-", UINT64_MAX - 15, 0, 3, 0, NONE},
        {"A-5 a struct with loan 0, at the end", &Vectors_read, "-", end - 16, 0, 0, 0, NONE},

        /* C-3: buffers, with lengths that do not fit, or wrap. */
        {"C-3 a buffer in the host's arena", &Desk_count, "bytes", W(h, 1), 64, 3, 0, NONE},
        {"C-3 a buffer across the end", &Desk_count, "bytes", W(end - 64, 1), 65, 3, 0, NONE},
        {"C-3 a buffer behind the end", &Desk_count, "bytes", W(end, 1), 1, 3, 0, NONE},
        {"C-3 longer than the arena", &Desk_count, "bytes", W(a, 1), len + 1, 3, 0, NONE},
        {"C-3 a length that wraps to the arena", &Desk_count, "bytes", one, S(-64), 3, 0, NONE},
        {"C-3 a length that wraps to 0", &Desk_count, "bytes", one, -(block + 1024), 3, 0, NONE},
        {"C-3 the largest length", &Desk_count, "bytes", one, UINT64_MAX, 3, 0, NONE},
        {"C-3 a length of 2^63", &Desk_count, "bytes", one, UINT64_C(1) << 63, 3, 0, NONE},
        {"C-3 a length of 2^32 + 1", &Desk_count, "bytes", one, LOW_HIGH(1, 1), 3, 0, NONE},
        {"P-2 a null buffer with bytes", &Desk_count, "bytes", 0, 5, 3, 0, NONE},
        {"C-3 the whole arena", &Desk_count, "-", W(a, 1), len, 0, 1, NONE},
        {"C-3 the last byte", &Desk_count, "-", W(end - 1, 1), 1, 0, 1, NONE},
        {"T-4 an empty buffer anywhere", &Desk_count, "-", UINT64_MAX, 0, 0, 0, NONE},
        {"P-2 a null Foreign<Stat>", &Desk_spot, "stat", 0, 0, 3, 0, NONE},
        {"C-3 a Foreign<Stat> across the end", &Desk_spot, "stat", W(end - 8, 1), 0, 3, 0, NONE},
        {"P-3 a Foreign<Stat> at 1", &Desk_maybe_spot, "spot", 1, 0, 3, 0, NONE},

        /* C-4 */
        {"C-4 a parameter struct", &Vectors_read, "-", lent + 4, 0, 3, 0, NONE},
        {"C-4 a u128 at a multiple of 8", &Vectors_wide, "value", lent + 8, 0, 3, 0, NONE},
        {"C-4 a struct", &Desk_turn, "outer", lent + 2, 0, 3, 0, NONE},
        {"C-4 a Foreign<Stat>", &Desk_spot, "stat", lent + 4, 0, 3, 0, NONE},
        {"C-4 a slice of u16", &Vectors_sum, "values", lent + 1, 2, 3, 0, NONE},
        {"P-5 a buffer anywhere", &Desk_count, "-", one + 1, 2, 0, 1, NONE},

        /* C-5 */
        {"A-5 a buffer with loan 0", &Desk_count, "bytes", at, 4, 3, 0, NONE},
        {"A-5 a string with loan 0", &Desk_shout, "text", at, 4, 3, 0, NONE},
        {"A-5 a slice with loan 0", &Vectors_sum, "values", at, 4, 3, 0, NONE},
        {"A-5 a Foreign<Stat> with loan 0", &Desk_spot, "stat", at, 0, 3, 0, NONE},
        {"A-5 an optional buffer with loan 0", &Desk_maybe_buf, "bytes", at, 4, 3, 0, NONE},
        {"A-5 a u128 with loan 0", &Vectors_wide, "-", at, 0, 0, 0, NONE},

        /* C-6: alone in a transport. */
        {"TY-3 a u8 of 256", &Next_u8, "value", 256, 0, 4, 0, NONE},
        {"TY-3 a u8 of all bits", &Next_u8, "value", UINT64_MAX, 0, 4, 0, NONE},
        {"TY-3 an i8 of 128", &Next_i8, "value", 128, 0, 4, 0, NONE},
        {"TY-3 an i8 of -1, zero-extended", &Next_i8, "value", 0xff, 0, 4, 0, NONE},
        {"TY-3 an i8 of -1, extended to 32 bits", &Next_i8, "value", 0xffffffff, 0, 4, 0, NONE},
        {"TY-3 an i8 of -129", &Next_i8, "value", S(-129), 0, 4, 0, NONE},
        {"TY-3 a u16 of 65536", &Next_u16, "value", 65536, 0, 4, 0, NONE},
        {"TY-3 an i16 of 32768", &Next_i16, "value", 32768, 0, 4, 0, NONE},
        {"TY-3 a u32 of 2^32", &Next_u32, "value", UINT64_C(1) << 32, 0, 4, 0, NONE},
        {"TY-3 an i32 of 2^31", &Next_i32, "value", UINT64_C(1) << 31, 0, 4, 0, NONE},
        {"TY-3 an f32 with high bits", &Next_f32, "value", UINT64_C(1) << 32, 0, 4, 0, NONE},
        {"TY-4 a bool of 2", &Next_bool, "value", 2, 0, 4, 0, NONE},
        {"TY-3 a bool of 257", &Next_bool, "value", 257, 0, 4, 0, NONE},
        {"TY-4 a char of 0xd800", &Next_char, "value", 0xd800, 0, 4, 0, NONE},
        {"TY-4 a char of 0xdfff", &Next_char, "value", 0xdfff, 0, 4, 0, NONE},
        {"TY-4 a char of 0x110000", &Next_char, "value", 0x110000, 0, 4, 0, NONE},
        {"TY-3 a char of 2^32 + 65", &Next_char, "value", (UINT64_C(1) << 32) + 65, 0, 4, 0, NONE},
        {"TY-8 an enum's unknown number", &Desk_flip, "level", 0, 0, 4, 0, NONE},
        {"TY-3 an enum's -1, zero-extended", &Desk_flip, "level", 0xff, 0, 4, 0, NONE},

        /* C-6: in wire forms, which are released all the same (PS-4). */
        {"TY-4 a bool of 2 among ten", &Vectors_scalars, "i", lent, 0, 4, 1,
         WORDS(0, 0, 0, 0, 0, 0, LOW_HIGH(2, 'x'))},
        {"TY-4 a char of 0xd800 among ten", &Vectors_scalars, "j", lent, 0, 4, 1,
         WORDS(0, 0, 0, 0, 0, 0, LOW_HIGH(1, 0xd800))},
        {"TY-4 a bool of 2 in a struct", &Vectors_total, "e", lent, 0, 4, 1,
         WORDS(0, 0, 0, 0, 0, 0, 2)},
        {"TY-9 an enum's unknown number", &Vectors_event, "event", lent, 0, 4, 1, WORDS(7)},
        {"TY-9 an enum's number with high bits", &Vectors_event, "event", lent, 0, 4, 1,
         WORDS(0x8000)},
        {"TY-9 a bad value in a variant", &Vectors_event, "down", lent, 0, 4, 1,
         WORDS(5 | UINT64_C(1) << 32, 2)},
        {"TY-9 the same in a variant without it", &Vectors_event, "-", lent, 0, 0, 1, WORDS(0, 2)},
        {"TY-9 a number that no variant has", &Desk_stroke, "stroke", lent, 0, 4, 1, WORDS(1)},
        {"TY-9 the second of three values", &Desk_stroke, "-", lent, 0, 0, 1,
         WORDS(3 | UINT64_C(0xffffffff) << 32, 1)},
        {"TY-9 a bad value among several", &Desk_stroke, "stroke", lent, 0, 4, 1, WORDS(3, 2)},
        {"TY-9 a bad enum among several", &Desk_stroke, "stroke", lent, 0, 4, 1, WORDS(4)},
        {"TY-9 a bad value, beside a text", &Desk_strokes, "first", lent, 0, 4, 2,
         WORDS(3, 2, one, 64, 1)},
        {"TY-9 a bad number, beside a text", &Desk_strokes, "first", lent, 0, 4, 2,
         WORDS(2, 0, one, 64, 1)},
        {"TY-15 a NonZero of 0, beside a text", &Desk_strokes, "count", lent, 0, 4, 2,
         WORDS(0, 0, one, 64, 0)},
        {"TY-15 a second of nanoseconds", &Desk_later, "time", lent, 0, 4, 1, WORDS(0, 1000000000)},
        {"TY-15 an address of neither version", &Desk_convert, "from", lent, 0, 4, 1,
         WORDS(0, 0, LOW_HIGH(1, 5))},
        {"TY-15 bytes behind an IPv4 address", &Desk_convert, "from", lent, 0, 4, 1,
         WORDS(0, 0, LOW_HIGH(1, 4), UINT64_C(1) << 32)},
        {"TY-11 a tag of 2", &Desk_maybe_number, "number", lent, 0, 4, 1, WORDS(2)},
        {"TY-11 a tag of 2^31", &Desk_maybe_number, "number", lent, 0, 4, 1,
         WORDS(UINT64_C(1) << 31)},
        {"TY-11 an inner tag of 2", &Vectors_maybe, "nested", lent, 0, 4, 1,
         WORDS(0, 0, 0, LOW_HIGH(1, 2))},
        {"TY-10 absent, in a transport, with bytes", &Desk_maybe_buf, "bytes", 0, 3, 4, 0, NONE},
        {"TY-10 absent, in a struct, with bytes", &Vectors_maybe, "buf", lent, 0, 4, 1,
         WORDS(0, 3)},
        {"P-3 present and empty, with any word", &Vectors_maybe, "-", lent, 0, 0, 1,
         WORDS(UINT64_MAX, 0, 0, 1)},

        /* C-7 */
        {"TY-5 a slice of a u16 and a half", &Vectors_sum, "values", one, 3, 4, 1, NONE},
        {"TY-5 a slice of a Stat and a half", &Vectors_total, "files", lent, 0, 4, 2,
         WORDS(one, 24)},
        {"TY-6 text that is no UTF-8, when it is read", &Desk_shout, "-", text, 3, 68, 1, NONE},
        {"TY-6 the same among parameters", &Vectors_open, "-", lent, 0, 68, 2, WORDS(text, 3)},

        {"C-3 before C-7: both bad", &Vectors_sum, "values", W(end, 1), 3, 3, 0, NONE},
        {"C-5 before C-7: both bad", &Vectors_sum, "values", at, 3, 3, 0, NONE},

        /* C-8 */
        {"L-3 padding full of garbage", &Vectors_read, "-", lent, 0, 0, 1,
         WORDS(3, LOW_HIGH(2, 0xffffffff))},
        {"L-3 padding inside of a struct", &Desk_turn, "-", lent, 0, 0, 1,
         WORDS(UINT64_C(0xffffffffffffff07), UINT64_C(0xffffff05ffffff01))},
        {"TY-11 the value of a None", &Desk_maybe_number, "-", lent, 0, 0, 1,
         WORDS(LOW_HIGH(0, 0xffffffff))},
        {"TY-11 a bad value of a None", &Vectors_maybe, "-", lent, 0, 0, 1,
         WORDS(0, 0, 0, LOW_HIGH(0, 9), 255)},

        /* PS-5: every good handle is released, whatever is bad beside it. */
        {"PS-5 bad pointer, then a bad tag", &Vectors_maybe, "buf", lent, 0, 3, 2,
         WORDS(W(end, 1), 4, two, LOW_HIGH(7, 0))},
        {"PS-5 good, loan 0, bad tag", &Vectors_maybe, "meta", lent, 0, 3, 2,
         WORDS(one, 4, at, LOW_HIGH(7, 0))},
        {"PS-5 good, good, bad tag", &Vectors_maybe, "nested", lent, 0, 4, 3,
         WORDS(one, 4, two, LOW_HIGH(1, 7))},
        {"PS-5 a struct of handles, the first bad", &Vectors_send, "name", lent, 0, 3, 3,
         WORDS(W(h, 1), 4, 1, 2, two, 4, three)},
        {"PS-5 a struct of handles, the last bad", &Vectors_send, "meta", lent, 0, 3, 3,
         WORDS(one, 4, 1, 2, two, 4, three + 4)},
        {"PS-6 a struct of handles that is not there", &Vectors_send, "file", lent + 4, 0, 3, 0,
         WORDS(one, 4, 1, 2, two, 4, three)},

        /* C-11: what a receiver cannot know. */
        {"C-11 a block that was never lent", &Desk_count, "-", W(a + 128, 200), 64, 0, 1, NONE},
        {"C-11 the same block twice", &Vectors_maybe, "-", lent, 0, 0, 2,
         WORDS(one, 64, one, LOW_HIGH(0, 0))},
        {"C-11 handles that overlap", &Vectors_maybe, "-", lent, 0, 0, 2,
         WORDS(one, 128, one + 8, LOW_HIGH(0, 0))},
        {"C-11 a handle to its own parameter struct", &Vectors_maybe, "-", lent, 0, 0, 1,
         WORDS(lent, 40, 0, LOW_HIGH(0, 0))},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) run(at, &rows[i]);
    vm_free(block);
    report(call(&Desk_held, 0, 0).primary == 0, "the host holds nothing of its own");
}

/* ABI, Release map M-3 and M-5: marks that mean nothing, or are the guest's loss. */
void hostile_marks(void)
{
    const uint64_t count = vm.host_len / VM_GRANULE;
    uint8_t *map = vm_base + vm.host_map;
    bool right = true;
    static const uint64_t fill[2] = {1000, 0};
    /* While the guest holds some of the host's blocks, and releases each a thousand times. */
    struct vm_answer held[8];
    for (unsigned i = 0; i < 8; i++) held[i] = call(&Desk_fill, vm_lend_bytes(fill, 16), 0);
    report(call(&Desk_held, 0, 0).primary == 8, "marks: eight blocks of the host's");
    for (unsigned i = 0; i < 4000; i++) vm_release(held[i % 4].primary);
    report(call(&Desk_held, 0, 0).primary == 4,
           "marks: four of them released, a thousand times each");
    for (unsigned number = 0; number < 256; number++) {
        memset(map, (int)number, count);
        uint64_t block = vm_new(16);
        struct vm_form f = form(block);
        VM_PUT(&f, uint64_t, 1000);
        VM_PUT(&f, uint8_t, (uint8_t)number);
        struct vm_answer got = call(&Desk_fill, vm_lend(block), 0);
        const uint8_t *bytes = vm_bytes(got.primary, 1000, 1);
        right &= got.status == VM_OK && bytes != NULL && got.secondary == 1000;
        for (unsigned i = 0; right && i < 1000; i++) right = bytes[i] == number;
        vm_release(got.primary);
    }
    report(right, "marks: each number in all places at once, and a right result between");
    /* A mark that is wiped out before the host looks is the guest's loss. */
    for (unsigned number = 1; number < 256; number++) {
        memset(map, (int)number, count);
        call(&Desk_held, 0, 0);
    }
    report(call(&Desk_held, 0, 0).primary == 0, "marks: each once more, and nothing is lent");
    /* The guest's own map is the guest's own affair. */
    vm_in_use();
    memset(vm_base + vm.guest_map, 0xee, vm.guest_len / VM_GRANULE);
    struct vm_answer got = call(&Desk_count, vm_lend_bytes("\1\2\3", 3), 3);
    report(got.status == VM_OK && got.primary == 6 && vm_in_use() == 0,
           "marks: in the guest's own map");
}

/* One upcall, answered wrongly: which one, what is said, and what its caller must make of it. */
struct answer_row {
    const char *name;
    uint64_t what; /* as `Desk::ask` numbers them */
    struct vm_answer said;
    uint64_t status;
    unsigned marks;
    unsigned count;
    uint64_t words[8];
};

enum { NOTHING, TRUTH, BYTES, STAT, A_FILE, LEVEL, MISBEHAVE };

/* ABI, Statuses S-1 to S-3 and S-5, Checks C-10, Parameter structs PS-5, Arenas and loans A-5: what
 * is answered is validated as what is sent. */
void lies(void)
{
    const uint64_t block = vm_new(4096), at = block, lent = W(at, 1);
    const uint64_t one = W(block + 1024, 11), two = W(block + 1088, 22);
    const uint64_t three = W(block + 1152, 33);
    const struct answer_row rows[] = {
        {"S-1 an error that is not declared", NOTHING, {1, 0, 0}, 79, 0, NONE},
        {"S-5 status 16", NOTHING, {16, 0, 0}, 79, 0, NONE},
        {"S-5 status 63", NOTHING, {63, 0, 0}, 79, 0, NONE},
        {"S-5 status 64", NOTHING, {64, 0, 0}, 79, 0, NONE},
        {"S-5 status 65", NOTHING, {65, 0, 0}, 79, 0, NONE},
        {"S-5 status 80", NOTHING, {80, 0, 0}, 79, 0, NONE},
        {"S-5 status 130", NOTHING, {130, 0, 0}, 79, 0, NONE},
        {"S-5 status 2^32", NOTHING, {UINT64_C(1) << 32, 0, 0}, 79, 0, NONE},
        {"S-5 status 2^63 + 2", NOTHING, {(UINT64_C(1) << 63) + 2, 0, 0}, 79, 0, NONE},
        {"S-5 the largest status", NOTHING, {UINT64_MAX, 0, 0}, 79, 0, NONE},
        {"S-2 status 2", NOTHING, {2, 0, 0}, 2, 0, NONE},
        {"S-2 status 9", NOTHING, {9, 0, 0}, 9, 0, NONE},
        {"S-3 status 66", NOTHING, {66, 0, 0}, 66, 0, NONE},
        {"S-3 status 79", NOTHING, {79, 0, 0}, 79, 0, NONE},
        {"S-1 a failure with a transport", BYTES, {5, one, 64}, 5, 0, NONE},
        {"C-10 () with a word", NOTHING, {0, 1, 0}, 68, 0, NONE},
        {"C-10 () with a byte count", NOTHING, {0, 0, 1}, 68, 0, NONE},
        {"C-10 a bool of 2", TRUTH, {0, 2, 0}, 68, 0, NONE},
        {"C-10 a bool with a byte count", TRUTH, {0, 1, 1}, 68, 0, NONE},
        {"C-10 a right bool", TRUTH, {0, 1, 0}, 0, 0, NONE},
        {"C-10 bytes in the host's arena", BYTES, {0, W(vm.host_arena, 1), 64}, 67, 0, NONE},
        {"C-10 bytes behind the end", BYTES, {0, W(vm.host_arena - 64, 1), 65}, 67, 0, NONE},
        {"C-10 bytes with loan 0", BYTES, {0, at, 64}, 67, 0, NONE},
        {"C-10 right bytes", BYTES, {0, one, 64}, 0, 1, NONE},
        {"C-10 a struct at null", STAT, {0, 0, 0}, 67, 0, NONE},
        {"C-10 a struct that is not aligned", STAT, {0, lent + 4, 0}, 67, 0, NONE},
        {"C-10 a struct with a byte count", STAT, {0, lent, 16}, 68, 0, NONE},
        {"C-10 a right struct", STAT, {0, lent, 0}, 0, 1, NONE},
        {"A-5 a right struct with loan 0", STAT, {0, at, 0}, 0, 0, NONE},
        {"C-10 an error's unknown number", LEVEL, {1, 0, 0}, 68, 0, NONE},
        {"C-10 a value that is too large", LEVEL, {0, 256, 0}, 68, 0, NONE},
        {"C-10 a right error", LEVEL, {1, 1, 0}, 0, 0, NONE},
        {"PS-5 a struct of handles, one bad", A_FILE, {0, lent, 0}, 67, 3,
         WORDS(one, 4, 1, 2, two, UINT64_MAX, three)},
        {"PS-5 a struct of handles, all good", A_FILE, {0, lent, 0}, 0, 4,
         WORDS(one, 4, 1, 2, two, 4, three)},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct answer_row *row = &rows[i];
        memcpy(vm_base + at, row->words, row->count * 8);
        marks();
        lie = row->said;
        struct vm_answer got = call(&Desk_ask, row->what, 0);
        unsigned left = marks();
        bool right = got.status == VM_OK && got.primary == row->status && left == row->marks;
        report(right, "answer: %s: %lu, %u released", row->name, got.primary, left);
    }
    vm_free(block);
    report(call(&Desk_held, 0, 0).primary == 0 && vm_in_use() == 0, "nobody holds anything");
}

/* --- What ends the guest ---------------------------------------------------------------------- */

static void raw(uint64_t kind, uint64_t word)
{
    vm_trap((struct vm_words){kind, word, 0, 0});
}

/* ABI, Traps TR-5, TR-10 and TR-18, Region header R-4. */
void misbehave(const char *how)
{
    printf("now    %s\n", how);
    fflush(stdout);
    if (strcmp(how, "kind 0") == 0) raw(0, 0);
    if (strcmp(how, "a kind that is none") == 0) raw(VM_EXIT + 1, 0);
    if (strcmp(how, "all bits as kind") == 0) raw(UINT64_MAX, 0);
    if (strcmp(how, "an answer's kind") == 0) raw(VM_ANSWER, 0);
    if (strcmp(how, "RETURN") == 0) raw(VM_RETURN, 0);
    if (strcmp(how, "RETURN twice") == 0) raw(VM_RETURN, 0), raw(VM_RETURN, 0);
    if (strcmp(how, "READY") == 0) raw(VM_READY, 0);
    if (strcmp(how, "EXIT") == 0) vm_trap((struct vm_words){VM_EXIT, 5, 6, 7});
    ring_wrongly(how);
    if (strcmp(how, "a store to the header") == 0) memset(vm_base + 16, 0, 8);
    if (strcmp(how, "a store to the host's arena") == 0) memset(vm_base + vm.host_arena, 1, 8);
    if (strcmp(how, "abort") == 0) abort();
}
