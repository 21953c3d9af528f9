/* Honest calls, one function after the other, as docs/abi.md says that they look. */
#include "declarations.h"

#include <stdio.h>
#include <string.h>

/* ABI, Region header, Versioning V-1: each check of the header refuses what it is there
 * for. */
void test_header(const void *base, uint64_t mapped)
{
    static _Alignas(VM_PAGE) uint64_t page[VM_PAGE / 8 + 1];
    struct vm_region region;
    const struct { const char *what, *refused; unsigned word; uint64_t change; } all[] = {
        {"another magic", "magic", 0, 1},
        {"another version", "version", 1, 3},
        {"more than what is mapped", "region_len", 2, VM_PAGE},
        {"less than its parts", "region_len", 2, -UINT64_C(4096)},
        {"an arena elsewhere", "guest_arena", 3, 64},
        {"no guest's arena", "guest_arena_len", 4, -vm.guest_len},
        {"half a page", "guest_arena_len", 4, 2048},
        {"an arena of 2^37 bytes", "guest_arena_len", 4, (UINT64_C(1) << 37) - vm.guest_len},
        {"a larger arena", "region_len", 4, VM_PAGE},
        {"an arena elsewhere", "host_arena", 5, VM_PAGE},
        {"no host's arena", "host_arena_len", 6, -vm.host_len},
        {"an arena of 2^37 bytes", "host_arena_len", 6, (UINT64_C(1) << 37) - vm.host_len},
        {"a map elsewhere", "guest_release_map", 7, VM_PAGE},
        {"a map elsewhere", "host_release_map", 8, VM_PAGE},
        {"reserved bytes", NULL, 9, 1},
        {"reserved bytes beside the version", NULL, 1, UINT64_C(1) << 32},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        memcpy(page, base, VM_PAGE);
        page[all[i].word] += all[i].change;
        const char *found = vm_header(page, mapped, &region);
        bool right = all[i].refused ? found && strcmp(found, all[i].refused) == 0 : !found;
        report(right, "header: %s: %s", all[i].what, found ? found : "not looked at");
    }
    const char *short_of = vm_header(base, 100, &region);
    report(short_of && strcmp(short_of, "region_len") == 0, "header: less than a page is mapped");
    const char *found = vm_header(page + 1, mapped, &region);
    report(found && strcmp(found, "address") == 0, "header: not at a page: %s", found ? found : "");
}

/* No value: `()`, or what has no bytes, or is absent (T-5). */
static bool is_unit(struct vm_answer got)
{
    return got.status == VM_OK && got.primary == 0 && got.secondary == 0;
}

/* The bits of a negative number. */
#define S(number) ((uint64_t)(int64_t)(number))

/* ABI, Types TY-1, TY-3, TY-4 and TY-8, Transport T-1 to T-3, Parameter structs PS-1 and PS-2:
 * scalars and enums without values, alone in a transport. */
static void scalars(void)
{
    static const struct { const struct vm_function *f; uint64_t values[8]; } all[] = {
        /* What is sent, and what comes back. */
        {&Next_u8, {0, 1, 0x7f, 0x80, 0xff, 0}},
        {&Next_i8, {0x7f, S(-128), S(-1), 0, S(-128), S(-127)}},
        {&Next_u16, {0, 1, 0xfffe, 0xffff, 0xffff, 0}},
        {&Next_i16, {0x7fff, S(-32768), S(-1), 0, 5, 6}},
        {&Next_u32, {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0}},
        {&Next_i32, {0x7fffffff, S(INT32_MIN), S(-1), 0, S(-5), S(-4)}},
        {&Next_u64, {0, 1, UINT64_MAX, 0, INT64_MAX, UINT64_C(1) << 63}},
        {&Next_i64, {INT64_MAX, UINT64_C(1) << 63, S(-1), 0, 5, 6}},
        {&Next_usize, {0, 1, UINT64_MAX, 0, 7, 8}},
        {&Next_isize, {INT64_MAX, UINT64_C(1) << 63, S(-1), 0, 5, 6}},
        /* 1.5, infinity, a NaN with a payload. */
        {&Next_f32, {0x3fc00000, 0xbfc00000, 0x7f800000, 0xff800000, 0x7fc12345, 0xffc12345}},
        {&Next_f64, {0x3ff8000000000000, 0xbff8000000000000, 0, 0x8000000000000000,
                     0x7ff8000000012345, 0xfff8000000012345}},
        {&Next_bool, {0, 1, 1, 0, 1, 0}},
        {&Next_char, {'a', 'b', 0xd7ff, 0xe000, 0x10fffe, 0x10ffff}},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        bool right = true;
        for (unsigned v = 0; v < 6; v += 2) {
            struct vm_answer got = call(all[i].f, all[i].values[v], 0);
            right &= got.status == VM_OK && got.primary == all[i].values[v + 1];
            right &= got.secondary == 0;
        }
        report(right, "scalar: three values of %s", all[i].f->name);
    }
    struct vm_answer got = call(&Vectors_nothing, 0, 0);
    report(is_unit(got), "no parameter, no result");
    got = call(&Vectors_narrow, S(-128), 0);
    report(got.status == VM_OK && got.primary == 128, "scalar: an i8 in, a u16 out");
    got = call(&Vectors_word, 0xe4, 0);
    report(got.status == VM_OK && got.primary == 0xe4, "scalar: an i32 in, a char out");
    got = call(&Desk_flip, S(-1), 0);
    bool right = got.status == VM_OK && got.primary == 1;
    got = call(&Desk_flip, 1, 0);
    report(right && got.status == VM_OK && got.primary == UINT64_MAX, "enum without values: both");
}

/* Bytes of a result that lies in the host's arena; they must be there. */
static const uint8_t *bytes_of(struct vm_answer got, uint64_t len, uint64_t align)
{
    static const uint8_t none[64];
    const uint8_t *bytes = vm_bytes(got.primary, len, align);
    bool right = got.status == VM_OK && bytes != NULL && got.primary >> 56 != 0;
    if (!right) report(false, "a result: status %lu, %#lx", got.status, got.primary);
    return right ? bytes : none;
}

/* ABI, Parameter structs PS-3 and PS-4, Types TY-2 and TY-7, RegionLayout L-1 to L-4, Arenas and loans
 * several parameters, and structs. */
static void structs(void)
{
    uint64_t block = vm_new(56);
    struct vm_form f = form(block);
    VM_PUT(&f, uint8_t, 1);
    VM_PUT(&f, int16_t, -2);
    VM_PUT(&f, uint32_t, 3);
    VM_PUT(&f, int64_t, -4);
    VM_PUT(&f, uint64_t, 5);
    VM_PUT(&f, int64_t, -6);
    VM_PUT(&f, float, 1.5f);
    VM_PUT(&f, double, -2.5);
    VM_PUT(&f, uint8_t, 1);
    VM_PUT(&f, uint32_t, 0xe4);
    uint64_t word = vm_lend(block);
    report(vm_in_use() == 1, "the first loan, where an old mark was"); /* R-8, M-4 */
    struct vm_answer got = call(&Vectors_scalars, word, 0);
    report(got.status == VM_OK && got.primary == 1 && f.at == 56, "ten parameters in a struct");
    report(vm_in_use() == 0, "... which is released");

    /* as a loan, and without one. */
    for (int lent = 0; lent < 2; lent++) {
        block = vm_new(16);
        f = form(block);
        VM_PUT(&f, uint64_t, 7);
        VM_PUT(&f, uint32_t, 3);
        got = call(&Vectors_read, lent ? vm_lend(block) : block, 0);
        bool right = memcmp(bytes_of(got, 3, 1), "\7\7\7", 3) == 0 && got.secondary == 3;
        vm_release(got.primary);
        if (!lent) right &= vm_in_use() == 1, vm_free(block);
        report(right && vm_in_use() == 0, "a struct %s",
               lent ? "as a loan" : "with loan 0, without a mark");
    }

    /* L-4: `Inner` with its own padding, in `Outer`. */
    block = vm_new(16);
    f = form(block);
    VM_PUT(&f, uint8_t, 8);
    VM_PUT(&f, uint32_t, 0x01020304);
    VM_PUT(&f, uint8_t, 9);
    f.at = 12;
    VM_PUT(&f, uint8_t, 10);
    got = call(&Desk_turn, vm_lend(block), 0);
    report(memcmp(bytes_of(got, 16, 4), "\12\0\0\0\xfb\xfc\xfd\xfe\12\0\0\0\10\0\0\0", 16) == 0,
           "a struct in a struct, alone; padding comes back as zeros");
    vm_release(got.primary);

    block = vm_new(16);
    f = form(block);
    VM_PUT(&f, unsigned __int128, (unsigned __int128)1 << 100 | 5);
    got = call(&Vectors_wide, vm_lend(block), 0);
    const uint8_t *wide = bytes_of(got, 16, 16);
    report(wide[0] == 0xfa && wide[11] == 0xff && wide[12] == 0xef, "a u128 in, an i128 out");
    vm_release(got.primary);

    got = call(&Desk_empty, 0, 0);
    bool right = is_unit(got);
    got = call(&Desk_units, 0, 0);
    report(right && got.status == VM_OK && got.primary == 2, "structs without bytes (TY-2, PS-3)");
    report(vm_in_use() == 0, "... and all is released");
}

/* ABI, Types TY-14 to TY-16: an array of tuples; a tuple of an array and a handle. */
static void compounds(void)
{
    uint64_t block = vm_new(32);
    struct vm_form f = form(block);
    VM_PUT(&f, uint8_t, 200);
    VM_PUT(&f, uint64_t, 0x1000);
    VM_PUT(&f, uint8_t, 100);
    VM_PUT(&f, uint64_t, 0x234);
    struct vm_answer got = call(&Desk_grid, vm_lend(block), 0);
    const uint8_t *bytes = bytes_of(got, 24, 8);
    bool right = f.at == 32 && memcmp(bytes, "\54\1\64\22\2\0\0\0", 8) == 0;
    uint64_t text, len;
    memcpy(&text, bytes + 8, 8);
    memcpy(&len, bytes + 16, 8);
    const uint8_t *grid = vm_bytes(text, len, 1);
    right &= len == 4 && grid != NULL && memcmp(grid, "grid", 4) == 0;
    vm_release(got.primary);
    vm_release(text);
    report(right && vm_in_use() == 0, "an array of tuples, and a tuple with a text");
}

/* ABI, Packed values PK-1 to PK-4: a list of records with text and bytes, and lists that are none. */
static void packed(void)
{
    /* Two elements in 53 bytes: ("ab", 1, "xyz"), ("", 2, ""). */
    static const uint8_t sent[16 + 24 + 5 + 24] =
        "\2\0\0\0\0\0\0\0\65\0\0\0\0\0\0\0"
        "\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0" "ab" "xyz"
        "\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    static const uint8_t turned[sizeof sent] =
        "\2\0\0\0\0\0\0\0\65\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0" "AB" "xyz";
    const uint64_t len = sizeof sent;
    struct vm_answer got = call(&Desk_turned, vm_lend_bytes(sent, len), len);
    bool right = got.secondary == len && memcmp(bytes_of(got, len, 1), turned, len) == 0;
    vm_release(got.primary);
    report(right, "a list of records there, and another one back");
    for (uint64_t cut = 0; cut < len; cut++)
        right &= call(&Desk_turned, vm_lend_bytes(sent, cut), cut).status == (VM_REACHED | VM_BAD_VALUE);
    static const uint8_t places[] = {0, 8, 16, 32, 45, 61};
    for (unsigned i = 0; i < sizeof places; i++) {
        static uint8_t wrong_bytes[sizeof sent];
        for (unsigned bit = 0; bit < 64; bit++) {
            memcpy(wrong_bytes, sent, len);
            wrong_bytes[places[i] + bit / 8] ^= (uint8_t)(1 << bit % 8);
            got = call(&Desk_turned, vm_lend_bytes(wrong_bytes, len), len);
            right &= got.status == (VM_REACHED | VM_BAD_VALUE);
        }
    }
    report(right && vm_in_use() == 0, "... and lists whose lengths and counts are wrong are refused");
}

/* ABI, Types TY-9 and TY-11: enums with values. */
static void enums(void)
{
    static const struct { const char *name; uint8_t sent[16], received[24]; } all[] = {
        {"Quit", {0}, {0}},
        {"Key", {5, 0, 0, 0, 4, 3, 2, 1, 1}, {1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5, 3, 2, 1, 0}},
        {"Moved", {6, 0, 0, 0, 0, 0, 0, 0, 1},
         {1, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0xfe, 255, 255, 255, 255, 255, 255, 255}},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct vm_answer got = call(&Vectors_event, vm_lend_bytes(all[i].sent, 16), 0);
        bool right = memcmp(bytes_of(got, 24, 8), all[i].received, 24) == 0;
        vm_release(got.primary);
        report(right, "enum with values: %s, and an option of one back", all[i].name);
    }
}

/* ABI, Types TY-9 and TY-11: variants with several values, alone, among others, and in an option. */
static void tuple_variants(void)
{
    static const struct { const char *name; uint8_t sent[12], received[12]; } all[] = {
        {"Lift", {0}, {3, 1, 0, 0, 2, 0, 0, 0, 1}},
        {"Line", {3, 7, 0, 0, 1, 0, 0, 0x80, 1}, {3, 8, 0, 0, 0xfe, 0xff, 0xff, 0x7f, 0}},
        {"Dash", {4, 0xff, 0x34, 0x12}, {4, 1, 0x35, 0x12}},
        {"Dash of High", {4, 1, 0xff, 0xff}, {0}},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        struct vm_answer got = call(&Desk_stroke, vm_lend_bytes(all[i].sent, 12), 0);
        bool right = memcmp(bytes_of(got, 12, 4), all[i].received, 12) == 0;
        vm_release(got.primary);
        report(right && vm_in_use() == 0, "a variant with several values: %s", all[i].name);
    }
    for (unsigned count = 4; count < 6; count++) {
        uint64_t block = vm_new(40), text = vm_lend_bytes("text", 4);
        struct vm_form f = form(block);
        memcpy(vm_field(&f, 12, 4), all[1].sent, 12);
        VM_PUT(&f, uint64_t, text);
        VM_PUT(&f, uint64_t, 4);
        VM_PUT(&f, uint8_t, count);
        struct vm_answer got = call(&Desk_strokes, vm_lend(block), 0);
        const uint8_t *bytes = bytes_of(got, 16, 4);
        bool right = bytes[0] == (count == 4);
        if (count == 4) right &= memcmp(bytes + 4, all[1].received, 12) == 0;
        vm_release(got.primary);
        report(right && vm_in_use() == 0, "... beside a text, and %s", count == 4 ? "Some" : "None");
    }
}

/* ABI, Types TY-15: what crosses as another type. */
static void conversions(void)
{
    static const uint8_t later[16] = {1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xc9, 0x9a, 0x3b};
    struct vm_answer got = call(&Desk_later, vm_lend_bytes(later, 16), 0);
    bool right = memcmp(bytes_of(got, 16, 8), "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0;
    vm_release(got.primary);
    report(right && vm_in_use() == 0, "a duration: a second and 999,999,999 ns, and one more");

    static const struct { const char *name; uint8_t sent[17], received[17]; } all[] = {
        {"an IPv4 address", {4, 10, 0, 1, 2}, {4, 10, 0, 0, 0xff}},
        {"an IPv6 address", {6, 0x20, 1, [16] = 2}, {6, 0x20, 0, 255, 255, 255, 255, 255, 255, 255, 255,
                                                    255, 255, 255, 255, 255, 255}},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        uint64_t block = vm_new(40);
        struct vm_form f = form(block);
        VM_PUT(&f, uint64_t, 3);
        VM_PUT(&f, uint32_t, 600000000);
        f.at = 16;
        VM_PUT(&f, uint32_t, 3);
        memcpy(vm_field(&f, 17, 1), all[i].sent, 17);
        got = call(&Desk_convert, vm_lend(block), 0);
        const uint8_t *bytes = bytes_of(got, 40, 8);
        uint64_t seconds;
        uint32_t nanos;
        memcpy(&seconds, bytes, 8), memcpy(&nanos, bytes + 8, 4);
        right = seconds == 7 && nanos == 200000000 && memcmp(bytes + 16, all[i].received, 17) == 0;
        vm_release(got.primary);
        report(right && vm_in_use() == 0, "a duration, a number that is not 0, and %s", all[i].name);
    }
}

/* ABI, Transport T-4 and T-5, Types TY-5 and TY-6: buffers, strings, slices. */
static void buffers(void)
{
    static const uint32_t lengths[] = {0, 1, 63, 64, 65, 4096, 100000};
    static uint8_t bytes[100000];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint64_t sum = 0, len = lengths[i];
        for (uint64_t b = 0; b < len; b++) sum += bytes[b];
        struct vm_answer got = call(&Desk_count, vm_lend_bytes(bytes, len), len);
        report(got.status == VM_OK && got.primary == sum && vm_in_use() == 0,
               "%lu bytes to the host", len);
    }
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint64_t len = lengths[i], block = vm_new(16);
        struct vm_form f = form(block);
        VM_PUT(&f, uint64_t, len);
        VM_PUT(&f, uint8_t, 0xa5);
        struct vm_answer got = call(&Desk_fill, vm_lend(block), 0);
        bool right = got.status == VM_OK && got.secondary == len;
        const uint8_t *result = len == 0 ? NULL : bytes_of(got, len, 1);
        for (uint64_t b = 0; right && b < len; b++) right = result[b] == 0xa5;
        if (len != 0) vm_release(got.primary);
        report(right, "%lu bytes from the host", len);
    }
    static const char quiet[] = "gr\xc3\xbc\xc3\x9f" "e", loud[] = "GR\xc3\x9cSSE";
    const uint64_t len = sizeof quiet - 1, back = sizeof loud - 1;
    struct vm_answer got = call(&Desk_shout, vm_lend_bytes(quiet, len), len);
    report(got.secondary == back && memcmp(bytes_of(got, back, 1), loud, back) == 0,
           "a string there, another one back");
    vm_release(got.primary);
    got = call(&Desk_shout, 0, 0);
    report(got.status == VM_OK && got.secondary == 0, "an empty string there and back");

    static const uint16_t numbers[] = {1, 2, 65535};
    got = call(&Vectors_sum, vm_lend_bytes(numbers, 6), 6);
    report(got.status == VM_OK && got.primary == 65538, "a slice of three u16");
    /* Two `Stat`, and a `Mixed` beside them. */
    uint64_t stats = vm_new(32), block = vm_new(64);
    struct vm_form f = form(stats);
    for (unsigned i = 0; i < 2; i++) {
        VM_PUT(&f, uint64_t, 1);
        VM_PUT(&f, uint32_t, 20 + i);
        VM_PUT(&f, uint32_t, 3);
    }
    f = form(block);
    VM_PUT(&f, uint64_t, vm_lend(stats));
    VM_PUT(&f, uint64_t, 32);
    VM_PUT(&f, uint8_t, 7);
    VM_PUT(&f, uint32_t, 100);
    VM_PUT(&f, uint16_t, 9);
    VM_PUT(&f, unsigned __int128, 11);
    VM_PUT(&f, uint8_t, 0);
    got = call(&Vectors_total, vm_lend(block), 0);
    const uint8_t *mixed = bytes_of(got, 48, 16);
    report(mixed[0] == 7 && mixed[4] == 141 && mixed[8] == 9 && mixed[16] == 11 && mixed[32] == 1,
           "a slice of structs and a struct among parameters, a struct back");
    vm_release(got.primary);
    report(vm_in_use() == 0, "... and all is released");
}

static uint64_t lend_stat(uint64_t size)
{
    uint64_t block = vm_new(16);
    struct vm_form f = form(block);
    VM_PUT(&f, uint64_t, size);
    VM_PUT(&f, uint32_t, 1);
    VM_PUT(&f, uint32_t, 2);
    return vm_lend(block);
}

/* ABI, Types TY-5, TY-10 and TY-11, Pointers P-2 and P-3: handles and options of both forms. */
static void handles_and_options(void)
{
    struct vm_answer got = call(&Desk_spot, lend_stat(40), 0);
    report(memcmp(bytes_of(got, 16, 8), "\51\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0", 16) == 0,
           "Foreign<Stat> there and back");
    vm_release(got.primary);
    got = call(&Vectors_stat, 9, 0);
    report(bytes_of(got, 16, 8)[0] == 9, "Foreign<Stat> as a result");
    vm_release(got.primary);

    got = call(&Desk_maybe_buf, 0, 0);
    report(is_unit(got), "Option<ForeignBuf>: None");
    got = call(&Desk_maybe_buf, 1, 0);
    report(got.status == VM_OK && got.primary == 1 && got.secondary == 0,
           "Option<ForeignBuf>: empty");
    got = call(&Desk_maybe_buf, vm_lend_bytes("abc", 3), 3);
    report(got.secondary == 3 && memcmp(bytes_of(got, 3, 1), "abc", 3) == 0,
           "Option<ForeignBuf>: abc");
    vm_release(got.primary);
    got = call(&Desk_maybe_spot, 0, 0);
    report(got.status == VM_OK && got.primary == 0, "Option<Foreign<Stat>>: None");
    got = call(&Desk_maybe_spot, lend_stat(41), 0);
    report(bytes_of(got, 16, 8)[0] == 41, "Option<Foreign<Stat>>: Some");
    vm_release(got.primary);

    for (uint32_t tag = 0; tag < 2; tag++) {
        uint64_t block = vm_new(8);
        struct vm_form f = form(block);
        VM_PUT(&f, uint32_t, tag);
        VM_PUT(&f, uint32_t, tag ? 76 : 0);
        got = call(&Desk_maybe_number, vm_lend(block), 0);
        const uint8_t *option = bytes_of(got, 8, 4);
        report(option[0] == tag && option[4] == (tag ? 77 : 0), "Option<u32>: %s",
               tag ? "Some" : "None");
        vm_release(got.primary);
    }
    /* All of them absent, all there, and the values inside of each absent or empty. */
    static const char *const names[] = {"none", "all", "inner ones empty"};
    static const uint8_t results[][8] = {{0}, {1, 0, 0, 0, 1}, {1, 0, 0, 0, 1}};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t block = vm_new(40);
        struct vm_form f = form(block);
        VM_PUT(&f, uint64_t, i == 1 ? vm_lend_bytes("abc", 3) : i / 2);
        VM_PUT(&f, uint64_t, i == 1 ? 3 : 0);
        VM_PUT(&f, uint64_t, i == 1 ? lend_stat(1) : 0);
        VM_PUT(&f, uint32_t, i != 0);
        VM_PUT(&f, uint32_t, i == 1);
        VM_PUT(&f, uint8_t, i == 1 ? 7 : 0);
        got = call(&Vectors_maybe, vm_lend(block), 0);
        report(memcmp(bytes_of(got, 8, 4), results[i], 8) == 0, "options as parameters: %s",
               names[i]);
        vm_release(got.primary);
    }
    report(vm_in_use() == 0, "... and all is released");
}

void test_calls(void)
{
    scalars();
    structs();
    compounds();
    packed();
    enums();
    tuple_variants();
    conversions();
    buffers();
    handles_and_options();
}

/* A `File` in a block of its own, lent, with everything that it holds. */
static uint64_t lend_file(bool body)
{
    uint64_t block = vm_new(56);
    struct vm_form f = form(block);
    VM_PUT(&f, uint64_t, vm_lend_bytes("name", 4));
    VM_PUT(&f, uint64_t, 4);
    VM_PUT(&f, uint64_t, 40);
    VM_PUT(&f, uint32_t, 1);
    VM_PUT(&f, uint32_t, 2);
    VM_PUT(&f, uint64_t, body); /* present and empty, or not there */
    VM_PUT(&f, uint64_t, 0);
    VM_PUT(&f, uint64_t, lend_stat(40));
    return vm_lend(block);
}

static struct vm_answer open_path(const char *path, uint32_t flags)
{
    uint64_t block = vm_new(24), len = strlen(path);
    struct vm_form f = form(block);
    VM_PUT(&f, uint64_t, vm_lend_bytes(path, len));
    VM_PUT(&f, uint64_t, len);
    VM_PUT(&f, uint32_t, flags);
    return call(&Vectors_open, vm_lend(block), 0);
}

static struct vm_answer divide(uint32_t a, uint32_t b)
{
    uint64_t block = vm_new(8);
    struct vm_form f = form(block);
    VM_PUT(&f, uint32_t, a);
    VM_PUT(&f, uint32_t, b);
    return call(&Desk_divide, vm_lend(block), 0);
}

/* ABI, Types TY-12, Statuses S-1, S-3, S-4 and S-6: how calls end, well and badly. */
static void statuses(void)
{
    struct vm_answer got = divide(7, 2);
    report(got.status == VM_OK && got.primary == 3, "Result: Ok, a scalar");
    got = divide(7, 0);
    report(got.status == VM_APP && got.primary == 2 && got.secondary == 0, "Result: Err, an enum");
    got = open_path("path", 0);
    report(got.status == VM_OK && got.primary == 4, "Result: Ok, with a string among parameters");
    got = open_path("missing", 0);
    report(got.status == VM_APP && got.primary == 1, "Result: Err, with a string among parameters");
    got = call(&Desk_judge, vm_lend_bytes("word", 4), 4);
    report(bytes_of(got, 16, 8)[0] == 4, "Result: Ok, a struct");
    vm_release(got.primary);
    got = call(&Desk_judge, vm_lend_bytes("two words", 9), 9);
    bool right = got.status == VM_APP;
    got.status = VM_OK;
    const uint8_t *complaint = bytes_of(got, 24, 8);
    uint64_t word, len;
    memcpy(&word, complaint, 8), memcpy(&len, complaint + 8, 8);
    const uint8_t *about = vm_bytes(word, 7, 1);
    right &= about && len == 7 && memcmp(about, "a space", 7) == 0 && complaint[16] == 3;
    report(right, "Result: Err, a struct with a string");
    vm_release(word), vm_release(got.primary);
    got = call(&Vectors_send, lend_file(true), 0);
    report(got.status == VM_OK && got.primary == 0, "a struct with handles: Ok(())");
    got = call(&Vectors_send, lend_file(false), 0);
    report(got.status == VM_APP && got.primary == UINT64_MAX,
           "a struct with handles: Err(Level::Low)");
    report(vm_in_use() == 0, "... whose handles are released");

    got = call(&Desk_panic, 0, 0);
    report(got.status == (VM_PANICKED | VM_REACHED), "a panic: status %lu", got.status);
    got = call(&Desk_refuse, 0, 0);
    report(got.status == (VM_REFUSED | VM_REACHED), "a refusal: status %lu", got.status);
    got = call(&Vectors_word, 0xd800, 0);
    report(got.status == (VM_REFUSED | VM_REACHED), "a refusal of a value: status %lu", got.status);
    uint64_t block = vm_new(16);
    struct vm_form f = form(block);
    VM_PUT(&f, uint64_t, UINT64_C(1) << 40);
    got = call(&Desk_fill, vm_lend(block), 0);
    report(got.status == (VM_OUT_OF_MEMORY | VM_REACHED), "no memory for the result: status %lu",
           got.status);
    /* A bool of 2 beside a slice: of both loans the guest is the owner again. */
    block = vm_new(64);
    f = form(block);
    VM_PUT(&f, uint64_t, lend_stat(1));
    VM_PUT(&f, uint64_t, 16);
    f.at = 48;
    VM_PUT(&f, uint8_t, 2);
    got = call(&Vectors_total, vm_lend(block), 0);
    report(got.status == VM_BAD_VALUE && vm_in_use() == 0, "a bad value: status %lu", got.status);
    got = vm_call(~Vectors_total.signature, lend_stat(1), 16);
    report(got.status == VM_UNKNOWN_FUNCTION && vm_in_use() == 0,
           "a function that nobody serves: status %lu", got.status);
    report(call(&Desk_held, 0, 0).primary == 0, "... and the host holds nothing");
}

/* ABI, Arenas and loans, Release map M-1 to M-3 and M-5: handles are kept
 * and released, on both sides. */
static void kept(void)
{
    /* The host keeps. */
    uint8_t hundred[100];
    memset(hundred, 3, sizeof hundred);
    struct vm_answer got = call(&Desk_keep, vm_lend_bytes(hundred, 100), 100);
    report(got.status == VM_OK && got.primary == 1 && vm_in_use() == 1, "the host keeps a buffer");
    call(&Vectors_nothing, 0, 0);
    report(vm_in_use() == 1, "... beyond the next call");
    got = call(&Desk_drop_kept, 0, 0);
    report(got.primary == 300 && vm_in_use() == 0, "... and releases it");

    /* The guest keeps. */
    static const uint64_t seven[2] = {7, 64};
    struct vm_answer first = call(&Vectors_read, vm_lend_bytes(seven, 12), 0);
    report(call(&Desk_held, 0, 0).primary == 1, "the guest keeps a buffer");
    struct vm_answer second = call(&Vectors_read, vm_lend_bytes(seven, 12), 0);
    report(first.primary != second.primary && call(&Desk_held, 0, 0).primary == 2,
           "... and another one");
    vm_release(first.primary);
    report(call(&Desk_held, 0, 0).primary == 1, "... and releases the first");
    struct vm_answer third = call(&Vectors_read, vm_lend_bytes(seven, 12), 0);
    uint64_t offset = UINT64_MAX >> 8;
    report((third.primary & offset) == (first.primary & offset) && third.primary != first.primary,
           "... whose place is lent again with another number");
    /* A-4, M-3, M-5 */
    vm_release(first.primary);
    report(call(&Desk_held, 0, 0).primary == 2,
           "... which a second mark for the first does not end");
    report(memcmp(bytes_of(third, 64, 1), bytes_of(second, 64, 1), 64) == 0, "... nor change");
    vm_release(third.primary), vm_release(second.primary);
    report(call(&Desk_held, 0, 0).primary == 0, "... and releases all of it");

    /* A struct of handles: each is a loan of its own (PS-4). */
    got = call(&Desk_report, 1, 0);
    const uint8_t *file = bytes_of(got, 56, 8);
    uint64_t words[7];
    memcpy(words, file, sizeof words);
    const uint8_t *name = vm_bytes(words[0], 6, 1), *body = vm_bytes(words[4], 4, 1);
    bool right = name && body && words[1] == 6 && words[5] == 4 && memcmp(name, "report", 6) == 0;
    report(right && memcmp(body, "body", 4) == 0 && vm_bytes(words[6], 16, 8)[0] == 5,
           "a struct with handles as a result");
    report(call(&Desk_held, 0, 0).primary == 4, "... is four loans");
    vm_release(got.primary), vm_release(words[0]);
    vm_release(words[4]), vm_release(words[6]);
    report(call(&Desk_held, 0, 0).primary == 0, "... which are released");

    /* Around once: 255 is followed by 1. */
    unsigned numbers = 0;
    uint8_t before = 0;
    for (unsigned i = 0; i < 600; i++) {
        got = call(&Vectors_read, vm_lend_bytes(seven, 12), 0);
        uint8_t loan = (uint8_t)(got.primary >> 56);
        numbers += loan != 0 && (i == 0 || loan == (before == 255 ? 1 : before + 1));
        before = loan;
        vm_release(got.primary);
    }
    report(numbers == 600, "600 loans of one place, each with the next number");
}

/* ABI, Signatures SG-6 and SG-7: what the host serves. */
static void has(void)
{
    const uint64_t served[] = {Vectors_nothing.signature, Next_u8.signature, Desk_climb.signature};
    const uint64_t others[] = {0, VM_HAS, VM_HANDSHAKE, 15, 16, Plugin_add.signature};
    bool right = true;
    for (unsigned i = 0; i < 3; i++) {
        struct vm_answer got = vm_call(VM_HAS, served[i], 0);
        right &= got.status == VM_OK && got.primary == 1 && got.secondary == 0;
    }
    report(right, "HAS: functions of three interfaces");
    right = true;
    for (unsigned i = 0; i < 6; i++) {
        struct vm_answer got = vm_call(VM_HAS, others[i], 0);
        right &= got.status == VM_OK && got.primary == 0 && got.secondary == 0;
    }
    report(right, "HAS: what the host does not serve");
}

void test_results(void)
{
    statuses();
    kept();
    has();
}
