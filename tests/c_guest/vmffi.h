/* A guest's side, written from docs/abi.md and from nothing else: one vCPU of x86_64, aarch64 or riscv64
 * that traps by a doorbell or a gate. Clauses are named where they are kept. */
#ifndef VMFFI_H
#define VMFFI_H

#include <stdbool.h>
#include <stdint.h>

/* --- Numbers ---------------------------------------------------------------------------------- */

enum { VM_PAGE = 4096, VM_GRANULE = 64, VM_MAX_DEPTH = 16, VM_VERSION = 1 };

/* Reserved signatures (SG-7, CT-2, BT-1). */
enum { VM_HAS = 1, VM_HANDSHAKE = 2, VM_BATCH = 5 };

/* Kinds of trap and of answer (TR-2, TR-3). */
#define VM_CALL UINT64_C(0x564d464600000001)
#define VM_RETURN UINT64_C(0x564d464600000002)
#define VM_READY UINT64_C(0x564d464600000003)
#define VM_EXIT UINT64_C(0x564d464600000004)
#define VM_ANSWER UINT64_C(0x564d464600000101)
#define VM_UPCALL UINT64_C(0x564d464600000102)

/* Statuses (S-1 to S-3). */
enum {
    VM_OK = 0, VM_APP = 1, VM_UNKNOWN_FUNCTION = 2, VM_BAD_POINTER = 3, VM_BAD_VALUE = 4,
    VM_OUT_OF_MEMORY = 5, VM_TOO_DEEP = 6, VM_CANCELLED = 8, VM_UNSUPPORTED = 10, VM_PANICKED = 11, VM_REFUSED = 14,
    VM_PROTOCOL = 15, VM_REACHED = 64,
};

/* --- The region ------------------------------------------------------------------------------- */

/* Offsets and lengths in bytes, as the header has them. */
struct vm_region {
    uint64_t len, guest_arena, guest_len, host_arena, host_len, guest_map, host_map;
};

/* Checks the header of a region that is mapped at `base` with `mapped` bytes. Returns NULL, or the
 * name of the first thing that is wrong. */
const char *vm_header(const void *base, uint64_t mapped, struct vm_region *region);

/* How the guest traps (TR-7, TR-19, TR-21, TR-24): one of the two addresses is 0. */
struct vm_method { uint64_t doorbell, gate; };

/* Takes a region whose header has passed, and how to trap. Both maps and the guest's arena must be
 * writable by now. */
void vm_connect(void *base, struct vm_region region, struct vm_method method);

extern struct vm_region vm;
extern uint8_t *vm_base;
extern struct vm_method vm_method;

/* --- Traps and calls -------------------------------------------------------------------------- */

struct vm_words { uint64_t kind, word, primary, secondary; };
struct vm_answer { uint64_t status, primary, secondary; };

/* One trap: four words go out, four come back (TR-1). */
struct vm_words vm_trap(struct vm_words words);

/* A hypercall. Serves upcalls until the answer is there. What was lent for it is taken back if its
 * function was not reached. */
struct vm_answer vm_call(uint64_t signature, uint64_t primary, uint64_t secondary);

/* Parks, and serves upcalls until the host lets the guest go on. Returns 0, or what went wrong. */
uint64_t vm_ready(void);

_Noreturn void vm_exit(uint64_t status);

/* What this guest serves, up to an entry without a function. */
struct vm_entry {
    uint64_t signature;
    struct vm_answer (*call)(uint64_t primary, uint64_t secondary);
};
extern const struct vm_entry *vm_entries;

/* How many calls are under way (N-1). */
extern unsigned vm_depth;

/* --- The guest's arena ------------------------------------------------------------------------ */

/* The offset of a new block of zeros, or 0 where there is no room. */
uint64_t vm_new(uint64_t len);
/* Frees a block that was not lent. */
void vm_free(uint64_t offset);
/* Lends a block to the call or the answer that goes out next; returns its pointer word. */
uint64_t vm_lend(uint64_t offset);
/* How many blocks are in use, after taking the host's release marks. */
unsigned vm_in_use(void);
/* A new block with a copy of some bytes, lent; 0 for none. */
uint64_t vm_lend_bytes(const void *bytes, uint64_t len);

/* What has been lent for the call or the answer that goes out next. */
struct vm_loans { unsigned count; uint64_t words[16]; };
extern struct vm_loans vm_going;

/* Takes back what was lent for a call that was not reached (S-4), and says whether a status means that (S-3 to S-5). */
void vm_take_back(const struct vm_loans *loans);
bool vm_consumed(uint64_t status);

/* --- Batches ---------------------------------------------------------------------------------- */

enum { VM_ENTRY = 24, VM_MAX_TAKEN = 16, VM_BATCH_ROOM = 64 };

/* A batch that is being made, in a block of its own (BT-1). */
struct vm_batch {
    uint64_t block;
    unsigned count;
    struct vm_loans loans[VM_BATCH_ROOM]; /* of each entry */
    struct vm_answer answers[VM_BATCH_ROOM];
};

struct vm_batch vm_batch(void);
/* Adds a call, with what was lent for it since the last one; returns the number of its entry. */
unsigned vm_add(struct vm_batch *batch, uint64_t signature, uint64_t primary, uint64_t secondary);
/* Takes the result of an entry for the next call: alone in its transport if `size` is 0, else for this place in its parameter
 * struct (BT-6). */
void vm_take(struct vm_batch *batch, unsigned entry, uint32_t offset, uint32_t size);
/* Makes the calls, and fills in the answers; returns the status of the batch. */
uint64_t vm_send(struct vm_batch *batch);

/* Serves a declared function, at the depth of the call that is under way. */
struct vm_answer vm_serve(uint64_t signature, uint64_t primary, uint64_t secondary);
/* Serves a batch of the host's. */
struct vm_answer vm_serve_batch(uint64_t primary, uint64_t secondary);
/* Copies the parameter struct of a call, gives it back, and puts the results there that the call takes. Returns a status (PS-4,
 * BT-6, BT-8). */
uint64_t vm_parameters(uint64_t primary, uint64_t secondary, void *copy, uint64_t size, uint64_t align);

/* --- The host's memory ------------------------------------------------------------------------ */

/* Bytes that the host has sent, or NULL where the word is refused (C-3, C-4). */
const uint8_t *vm_bytes(uint64_t word, uint64_t len, uint64_t align);
/* Releases a block of the host's (M-2). */
void vm_release(uint64_t word);

/* --- Wire forms ------------------------------------------------------------------------------- */

/* Walks through a wire form, field by field: each at the next multiple of its alignment (L-2). */
struct vm_form { uint8_t *bytes; uint64_t at; };

void *vm_field(struct vm_form *form, uint64_t size, uint64_t align);

#define VM_PUT(form, type, value) (*(type *)vm_field(form, sizeof(type), _Alignof(type)) = (value))
#define VM_GET(form, type) (*(type *)vm_field(form, sizeof(type), _Alignof(type)))

/* --- Types and signatures --------------------------------------------------------------------- */

enum vm_kind { VM_PLAIN, VM_HANDLE, VM_OPTION, VM_RESULT, VM_ARRAY, VM_TUPLE, VM_STRUCT, VM_ENUM };

struct vm_type {
    enum vm_kind kind;
    const char *name;
    uint64_t size, align;             /* of a scalar or a handle; an array's elements and 0 */
    const struct vm_type *of, *error; /* between the angle brackets; an enum's integer */
    const struct vm_named *fields;    /* of a struct or a tuple, up to one without a type */
    const struct vm_variant *variants; /* of an enum, up to one without a name */
};
struct vm_named { const char *name; const struct vm_type *type; };
struct vm_variant { const char *name; int64_t number; const struct vm_named *fields; };

#define VM_SCALAR(name, size) {VM_PLAIN, name, size, size, 0, 0, 0, 0}
#define VM_BUFFER(name) {VM_HANDLE, name, 16, 8, 0, 0, 0, 0}
#define VM_SLICE(type) {VM_HANDLE, "ForeignSlice", 16, 8, type, 0, 0, 0}
#define VM_FOREIGN(type) {VM_HANDLE, "Foreign", 8, 8, type, 0, 0, 0}
#define VM_PACKED(type) {VM_HANDLE, "ForeignPacked", 16, 8, type, 0, 0, 0}
#define VM_LIST(type) {VM_PLAIN, "List", 16, 8, type, 0, 0, 0}
#define VM_OPTION_OF(type) {VM_OPTION, "Option", 0, 0, type, 0, 0, 0}
#define VM_RESULT_OF(type, error) {VM_RESULT, "Result", 0, 1, type, error, 0, 0}
#define VM_FIELDS(...) (const struct vm_named[]){__VA_ARGS__, {0, 0}}
#define VM_STRUCT_OF(name, ...) {VM_STRUCT, name, 0, 0, 0, 0, VM_FIELDS(__VA_ARGS__), 0}
#define VM_ARRAY_OF(type, count) {VM_ARRAY, "array", count, 0, type, 0, 0, 0}
#define VM_TUPLE_OF(...) {VM_TUPLE, "tuple", 0, 0, 0, 0, VM_FIELDS(__VA_ARGS__), 0}
#define VM_ENUM_OF(name, integer, ...) \
    {VM_ENUM, name, 0, 0, integer, 0, 0, (const struct vm_variant[]){__VA_ARGS__, {0, 0, 0}}}

struct vm_layout { uint64_t size, align; };

struct vm_layout vm_layout(const struct vm_type *type);
uint64_t vm_hash(const struct vm_type *type);

struct vm_function {
    const char *interface, *name;
    const struct vm_type *result;
    const struct vm_type *const *parameters; /* up to NULL */
    uint64_t signature;                      /* computed by whoever needs it */
};

uint64_t vm_signature(const struct vm_function *function);

/* --- The contract ----------------------------------------------------------------------------- */

/* A contract that is being written (CT-5). */
struct vm_contract {
    uint8_t *bytes;
    uint64_t room, len;
    uint16_t records, types;
    uint64_t hashes[256]; /* of the types that have a record, in their order */
};

/* Begins one in some memory. */
struct vm_contract vm_contract(uint8_t *bytes, uint64_t room);
/* Adds a function that this side serves (flags 1) or calls (2), with its types (CT-6). */
void vm_tell(struct vm_contract *contract, uint8_t flags, const struct vm_function *function);
/* Hands it to the host, in the guest's arena; returns a status (CT-2, CT-3). */
uint64_t vm_meet(struct vm_contract *contract);

#endif
