/* See declarations.h. */
#include "declarations.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TYPE static const struct vm_type
TYPE U8 = VM_SCALAR("u8", 1), I8 = VM_SCALAR("i8", 1), BOOL = VM_SCALAR("bool", 1);
TYPE U16 = VM_SCALAR("u16", 2), I16 = VM_SCALAR("i16", 2);
TYPE U32 = VM_SCALAR("u32", 4), I32 = VM_SCALAR("i32", 4), F32 = VM_SCALAR("f32", 4);
TYPE CHAR = VM_SCALAR("char", 4);
TYPE U64 = VM_SCALAR("u64", 8), I64 = VM_SCALAR("i64", 8), F64 = VM_SCALAR("f64", 8);
TYPE USIZE = VM_SCALAR("usize", 8), ISIZE = VM_SCALAR("isize", 8);
TYPE U128 = VM_SCALAR("u128", 16), I128 = VM_SCALAR("i128", 16);
TYPE UNIT = {VM_PLAIN, "()", 0, 1, 0, 0, 0, 0};
TYPE BUF = VM_BUFFER("ForeignBuf"), STR = VM_BUFFER("ForeignStr");

TYPE STAT = VM_STRUCT_OF("Stat", {"size", &U64}, {"mode", &U32}, {"links", &U32});
TYPE MIXED = VM_STRUCT_OF("Mixed", {"a", &U8}, {"b", &U32}, {"c", &U16}, {"d", &U128},
                          {"e", &BOOL});
TYPE FOREIGN_STAT = VM_FOREIGN(&STAT), OPTION_FOREIGN_STAT = VM_OPTION_OF(&FOREIGN_STAT);
TYPE SLICE_U16 = VM_SLICE(&U16), SLICE_STAT = VM_SLICE(&STAT);
TYPE OPTION_BUF = VM_OPTION_OF(&BUF), OPTION_BOOL = VM_OPTION_OF(&BOOL);
TYPE OPTION_U8 = VM_OPTION_OF(&U8), OPTION_OPTION_U8 = VM_OPTION_OF(&OPTION_U8);
TYPE OPTION_U32 = VM_OPTION_OF(&U32);
TYPE FILE_ = VM_STRUCT_OF("File", {"name", &STR}, {"stat", &STAT}, {"body", &OPTION_BUF},
                          {"meta", &OPTION_FOREIGN_STAT});
TYPE OPEN_ERROR = VM_ENUM_OF("OpenError", &U32, {"NotFound", 1, 0}, {"Denied", 2, 0});
TYPE LEVEL = VM_ENUM_OF("Level", &I8, {"Low", -1, 0}, {"High", 1, 0});
TYPE EVENT = VM_ENUM_OF("Event", &U16, {"Quit", 0, 0},
                        {"Key", 5, VM_FIELDS({"code", &U32}, {"down", &BOOL})},
                        {"Moved", 6, VM_FIELDS({0, &U64})});
TYPE OPTION_EVENT = VM_OPTION_OF(&EVENT);
TYPE PAIR = VM_TUPLE_OF({0, &U8}, {0, &U64}), GRID = VM_ARRAY_OF(&PAIR, 2);
TYPE THREE = VM_ARRAY_OF(&U16, 3), THREE_AND_TEXT = VM_TUPLE_OF({0, &THREE}, {0, &STR});
TYPE BYTES_16 = VM_ARRAY_OF(&U8, 16), STATS_2 = VM_ARRAY_OF(&STAT, 2), TEXT_ALONE = VM_TUPLE_OF({0, &STR});
TYPE TEXT = VM_SCALAR("&str", 8), BYTES = VM_SCALAR("&[u8]", 8);
TYPE RECORD = VM_STRUCT_OF("Record", {"name", &TEXT}, {"size", &U32}, {"body", &BYTES});
TYPE RECORDS = VM_LIST(&RECORD), PACKED_RECORDS = VM_PACKED(&RECORDS);
TYPE LIST_BYTES = VM_LIST(&BYTES);
TYPE ENTRY = VM_STRUCT_OF("Entry", {"name", &TEXT}, {"size", &U64}, {"mode", &OPTION_U32},
                          {"tags", &LIST_BYTES});
TYPE CELL = VM_ENUM_OF("Cell", &U8, {"Null", 0, 0}, {"Int", 1, VM_FIELDS({0, &I64})},
                       {"Text", 9, VM_FIELDS({0, &TEXT})});
TYPE LIST_CELL = VM_LIST(&CELL), PACKED_ENTRY = VM_PACKED(&ENTRY), PACKED_CELLS = VM_PACKED(&LIST_CELL);
/* TY-16: what a `Duration` and an `IpAddr` cross as; a `NonZero` crosses as its integer. */
TYPE TIME = VM_TUPLE_OF({0, &U64}, {0, &U32}), IP = VM_TUPLE_OF({0, &U8}, {0, &BYTES_16});
TYPE TIME_AND_IP = VM_TUPLE_OF({0, &TIME}, {0, &IP});
TYPE STROKE = VM_ENUM_OF("Stroke", &U8, {"Lift", 0, 0},
                         {"Line", 3, VM_FIELDS({0, &U8}, {0, &U32}, {0, &BOOL})},
                         {"Dash", 4, VM_FIELDS({0, &LEVEL}, {0, &U16})});
TYPE OPTION_STROKE = VM_OPTION_OF(&STROKE), STROKE_AND_TIME = VM_TUPLE_OF({0, &STROKE}, {0, &TIME});
TYPE NOTHING = {VM_STRUCT, "Nothing", 0, 0, 0, 0, 0, 0};
TYPE INNER = VM_STRUCT_OF("Inner", {"a", &U32}, {"b", &U8});
TYPE OUTER = VM_STRUCT_OF("Outer", {"first", &U8}, {"inner", &INNER}, {"last", &U8});
TYPE OTHER_INNER = VM_STRUCT_OF("Inner", {"a", &U32}, {"b", &I8});
TYPE OTHER_OUTER = VM_STRUCT_OF("Outer", {"first", &U8}, {"inner", &OTHER_INNER}, {"last", &U8});
TYPE COMPLAINT = VM_STRUCT_OF("Complaint", {"about", &STR}, {"at", &U32});
TYPE U64_OR_OPEN_ERROR = VM_RESULT_OF(&U64, &OPEN_ERROR);
TYPE U32_OR_OPEN_ERROR = VM_RESULT_OF(&U32, &OPEN_ERROR);
TYPE I32_OR_OPEN_ERROR = VM_RESULT_OF(&I32, &OPEN_ERROR);
TYPE STAT_OR_COMPLAINT = VM_RESULT_OF(&STAT, &COMPLAINT);
TYPE UNIT_OR_LEVEL = VM_RESULT_OF(&UNIT, &LEVEL), U8_OR_LEVEL = VM_RESULT_OF(&U8, &LEVEL);

#define DEFINE(interface, name, result, ...) \
    struct vm_function interface##_##name = \
        {#interface, #name, result, (const struct vm_type *const[]){__VA_ARGS__}, 0};
FUNCTIONS(DEFINE)

void sign(void)
{
#define SIGN(interface, name, ...) &interface##_##name,
    struct vm_function *all[] = {FUNCTIONS(SIGN)};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        all[i]->signature = vm_signature(all[i]);
}

uint64_t meet(bool fit)
{
#define LIST(interface, name, ...) {&interface##_##name, #interface},
    static const struct { const struct vm_function *f; const char *interface; } all[] = {
        FUNCTIONS(LIST)
    };
    static uint8_t bytes[1 << 14];
    struct vm_contract contract = vm_contract(bytes, sizeof bytes);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        const struct vm_function *f = all[i].f;
        bool serves = strcmp(all[i].interface, "Plugin") == 0;
        bool lies = strcmp(all[i].interface, "Liar") == 0;
        if (lies && !fit) continue;
        vm_tell(&contract, serves || lies ? 1 : 2, f);
    }
    if (!fit) {
        /* One returns something else, one takes a struct that has changed deep inside. */
        static const struct vm_type *const nothing[] = {0}, *const changed[] = {&OTHER_OUTER, 0};
        vm_tell(&contract, 2, &(struct vm_function){"Desk", "held", &U32, nothing, 0});
        vm_tell(&contract, 2, &(struct vm_function){"Desk", "turn", &OTHER_OUTER, changed, 0});
    }
    return vm_meet(&contract);
}

/* ABI, Signatures SG-1 to SG-5: the document's vectors. */
void test_vectors(void)
{
    static const struct {
        const char *shown;
        const struct vm_type *type;
        uint64_t hash;
    } types[] = {
        {"()", &UNIT, 0x11b2a6c37915efac},
        {"u8", &U8, 0xc43b68e2f98a2f03},
        {"u64", &U64, 0x93191ebc1bc1fba9},
        {"usize", &USIZE, 0xda2e172ba5332403},
        {"i128", &I128, 0x43d5b3215ad22ead},
        {"f32", &F32, 0x3e6cb89a135d6444},
        {"bool", &BOOL, 0xeef12ba132d3c2af},
        {"char", &CHAR, 0xebe6b4f5e32b93d6},
        {"ForeignBuf", &BUF, 0xc6a03a7595189e7e},
        {"ForeignStr", &STR, 0x97a3e2dbd8b8b19a},
        {"Stat", &STAT, 0x55d81fb1431e0425},
        {"Mixed", &MIXED, 0x5195d23bb40edba7},
        {"File", &FILE_, 0x79374db131355765},
        {"OpenError", &OPEN_ERROR, 0x0ce0fc1ddfb3d0e3},
        {"Level", &LEVEL, 0x7e11bffa0cfc88bd},
        {"Event", &EVENT, 0xa1eddf0767299714},
        {"Option<u32>", &OPTION_U32, 0xcb29fa31646714ff},
        {"Foreign<Stat>", &FOREIGN_STAT, 0x0c277797ebc382cf},
        {"[u8; 16]", &BYTES_16, 0x81c2f12456451362},
        {"[Stat; 2]", &STATS_2, 0xbb1323b8c78167c4},
        {"(u8, u64)", &PAIR, 0x9eb05bfb36a3f357},
        {"(ForeignStr,)", &TEXT_ALONE, 0xeccaca866bcf5a54},
        {"ForeignPacked<Entry>", &PACKED_ENTRY, 0xd3d5cb8795bc03a8},
        {"ForeignPacked<List<Cell>>", &PACKED_CELLS, 0xd4c51ada3670f808},
    };
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        uint64_t hash = vm_hash(types[i].type);
        report(hash == types[i].hash, "hash of %s: %#018lx", types[i].shown, hash);
    }
    static const struct { const struct vm_function *f; uint64_t signature; } functions[] = {
        {&Vectors_nothing, 0xb2382b0e6e60ed44},
        {&Vectors_scalars, 0x3ba67566f5af1352},
        {&Vectors_narrow, 0x5626243cfc5e1acc},
        {&Vectors_word, 0x0f0cc1026c6f5cf3},
        {&Vectors_wide, 0x0b2e42559b6fcf39},
        {&Vectors_stat, 0x051858a6973d6aea},
        {&Vectors_read, 0xe942bf2ab3a3b2f5},
        {&Vectors_open, 0x8309e1dad7979fd9},
        {&Vectors_sum, 0x89d102bacc2a947a},
        {&Vectors_total, 0x9dc85eb4efcbbd37},
        {&Vectors_event, 0xaf00bc30e53f279f},
        {&Vectors_send, 0x6b094eae4e705194},
        {&Vectors_maybe, 0x7b57ac271e67a077},
    };
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++)
        report(functions[i].f->signature == functions[i].signature, "signature of %s: %#018lx",
               functions[i].f->name, functions[i].f->signature);
}

unsigned wrong, cases;

void report(bool right, const char *format, ...)
{
    va_list arguments;
    cases++;
    if (!right) wrong++;
    fputs(right ? "ok     " : "WRONG  ", stdout);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}
