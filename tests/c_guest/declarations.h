/* What the guest calls and serves: the declarations of server.rs in C, and what every case uses. */
#ifndef DECLARATIONS_H
#define DECLARATIONS_H

#include "vmffi.h"

/* What host and guest have agreed on (O-2, TR-7): where the region is, and the doorbell, in a page
 * that the guest keeps free. */
#define REGION UINT64_C(0x200000000000)
#define DOORBELL UINT64_C(0x100000000040)

/* X(interface, name, type of the result, types of the parameters, 0) */
#define FUNCTIONS(X) \
    X(Vectors, nothing, &UNIT, 0) \
    X(Vectors, scalars, &U64, &U8, &I16, &U32, &I64, &USIZE, &ISIZE, &F32, &F64, &BOOL, &CHAR, 0) \
    X(Vectors, narrow, &U16, &I8, 0) \
    X(Vectors, word, &CHAR, &I32, 0) \
    X(Vectors, wide, &I128, &U128, 0) \
    X(Vectors, stat, &FOREIGN_STAT, &U64, 0) \
    X(Vectors, read, &BUF, &U64, &U32, 0) \
    X(Vectors, open, &U64_OR_OPEN_ERROR, &STR, &U32, 0) \
    X(Vectors, sum, &U64, &SLICE_U16, 0) \
    X(Vectors, total, &MIXED, &SLICE_STAT, &MIXED, 0) \
    X(Vectors, event, &OPTION_EVENT, &EVENT, 0) \
    X(Vectors, send, &UNIT_OR_LEVEL, &FILE_, 0) \
    X(Vectors, maybe, &OPTION_BOOL, &OPTION_BUF, &OPTION_FOREIGN_STAT, &OPTION_OPTION_U8, 0) \
    X(Next, u8, &U8, &U8, 0) \
    X(Next, i8, &I8, &I8, 0) \
    X(Next, u16, &U16, &U16, 0) \
    X(Next, i16, &I16, &I16, 0) \
    X(Next, u32, &U32, &U32, 0) \
    X(Next, i32, &I32, &I32, 0) \
    X(Next, u64, &U64, &U64, 0) \
    X(Next, i64, &I64, &I64, 0) \
    X(Next, usize, &USIZE, &USIZE, 0) \
    X(Next, isize, &ISIZE, &ISIZE, 0) \
    X(Next, f32, &F32, &F32, 0) \
    X(Next, f64, &F64, &F64, 0) \
    X(Next, bool, &BOOL, &BOOL, 0) \
    X(Next, char, &CHAR, &CHAR, 0) \
    X(Desk, flip, &LEVEL, &LEVEL, 0) \
    X(Desk, turn, &OUTER, &OUTER, 0) \
    X(Desk, grid, &THREE_AND_TEXT, &GRID, 0) \
    X(Desk, turned, &PACKED_RECORDS, &PACKED_RECORDS, 0) \
    X(Desk, convert, &TIME_AND_IP, &TIME, &U32, &IP, 0) \
    X(Desk, later, &TIME, &TIME, 0) \
    X(Desk, stroke, &STROKE, &STROKE, 0) \
    X(Desk, strokes, &OPTION_STROKE, &STROKE, &STR, &U8, 0) \
    X(Desk, empty, &NOTHING, &NOTHING, 0) \
    X(Desk, units, &U8, &UNIT, &UNIT, 0) \
    X(Desk, fill, &BUF, &U64, &U8, 0) \
    X(Desk, count, &U64, &BUF, 0) \
    X(Desk, shout, &STR, &STR, 0) \
    X(Desk, spot, &FOREIGN_STAT, &FOREIGN_STAT, 0) \
    X(Desk, maybe_buf, &OPTION_BUF, &OPTION_BUF, 0) \
    X(Desk, maybe_spot, &OPTION_FOREIGN_STAT, &OPTION_FOREIGN_STAT, 0) \
    X(Desk, maybe_number, &OPTION_U32, &OPTION_U32, 0) \
    X(Desk, divide, &U32_OR_OPEN_ERROR, &U32, &U32, 0) \
    X(Desk, judge, &STAT_OR_COMPLAINT, &STR, 0) \
    X(Desk, report, &FILE_, &LEVEL, 0) \
    X(Desk, keep, &U32, &BUF, 0) \
    X(Desk, drop_kept, &U64, 0) \
    X(Desk, held, &U64, 0) \
    X(Desk, climb, &U32, &U32, 0) \
    X(Desk, panic, &UNIT, 0) \
    X(Desk, refuse, &UNIT, 0) \
    X(Desk, ask, &U64, &U8, 0) \
    X(Plugin, nothing, &UNIT, 0) \
    X(Plugin, add, &U64, &U32, &U64, 0) \
    X(Plugin, total, &U64, &BUF, 0) \
    X(Plugin, shout, &STR, &STR, 0) \
    X(Plugin, maybe, &OPTION_U32, &OPTION_BUF, 0) \
    X(Plugin, halve, &I32_OR_OPEN_ERROR, &I32, 0) \
    X(Plugin, climb, &U32, &U32, 0) \
    X(Plugin, largest, &PACKED_RECORDS, &PACKED_RECORDS, 0) \
    X(Plugin, draw, &STROKE_AND_TIME, &STROKE, &TIME, 0) \
    X(Plugin, keep, &UNIT, &BUF, 0) \
    X(Plugin, misbehave, &UNIT, 0) \
    X(Liar, nothing, &UNIT, 0) \
    X(Liar, truth, &BOOL, 0) \
    X(Liar, bytes, &BUF, 0) \
    X(Liar, stat, &STAT, 0) \
    X(Liar, file, &FILE_, 0) \
    X(Liar, level, &U8_OR_LEVEL, 0)

#define DECLARE(interface, name, ...) extern struct vm_function interface##_##name;
FUNCTIONS(DECLARE)

/* Computes all signatures. */
void sign(void);

/* Tells the host what this guest serves and calls: rightly, or so that the two do not fit. Returns
 * a status. */
uint64_t meet(bool fit);

/* Compares hashes and signatures with the document's. */
void test_vectors(void);

/* Prints one line for a case, and counts. */
__attribute__((format(printf, 2, 3)))
void report(bool right, const char *format, ...);
extern unsigned wrong, cases;

/* Calls a function. */
static inline struct vm_answer call(const struct vm_function *f, uint64_t primary,
                                    uint64_t secondary)
{
    return vm_call(f->signature, primary, secondary);
}

/* A new block with a wire form to be filled, and its pointer word. */
static inline struct vm_form form(uint64_t block)
{
    return (struct vm_form){vm_base + block, 0};
}

/* The parts of the program. */
void test_header(const void *base, uint64_t mapped);
void test_calls(void);
void test_results(void);
void test_nesting(void);
void test_batches(void);
/* Those of each architecture, in `native`: a trap that must leave registers alone, a gate as a host would map one, and
 * accesses to the doorbell that are no traps. */
void test_registers(bool by_gate);
void gate(void);
void ring_wrongly(const char *how);
void hostile_calls(void);
void hostile_marks(void);
void hostile_batches(void);
void lies(void);
void misbehave(const char *how);

extern const struct vm_entry *served(void);
/* How `Plugin::misbehave` misbehaves. */
extern const char *bad_habit;
/* What `Liar` answers. */
extern struct vm_answer lie;

#endif
