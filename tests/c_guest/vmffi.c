/* See vmffi.h. */
#include "vmffi.h"

#include <stdlib.h>
#include <string.h>

struct vm_region vm;
uint8_t *vm_base;
const struct vm_entry *vm_entries;
unsigned vm_depth;

static uint64_t up(uint64_t at, uint64_t align)
{
    return (at + align - 1) / align * align;
}

/* --- The region ------------------------------------------------------------------------------- */

/* */
static bool arena_len(uint64_t len)
{
    return len != 0 && len % VM_PAGE == 0 && len < UINT64_C(1) << 37;
}

const char *vm_header(const void *base, uint64_t mapped, struct vm_region *region)
{
    const volatile uint64_t *words = base;

    /* R-6, in its order. */
    if ((uintptr_t)base % VM_PAGE != 0) return "address";
    if (mapped < VM_PAGE) return "region_len";
    uint64_t magic = words[0];
    if (memcmp(&magic, "VMFFI\0\0", 8) != 0) return "magic";
    if ((uint32_t)words[1] != VM_VERSION) return "version"; /* the other half is reserved */
    struct vm_region r = {words[2], words[3], words[4], words[5], words[6], words[7], words[8]};
    if (r.len > mapped) return "region_len";
    if (!arena_len(r.guest_len)) return "guest_arena_len";
    if (!arena_len(r.host_len)) return "host_arena_len";
    /* */
    uint64_t guest_map = VM_PAGE + up(r.host_len / VM_GRANULE, VM_PAGE);
    uint64_t guest_arena = guest_map + up(r.guest_len / VM_GRANULE, VM_PAGE);
    if (r.len != guest_arena + r.guest_len + r.host_len) return "region_len";
    if (r.guest_arena != guest_arena) return "guest_arena";
    if (r.host_arena != guest_arena + r.guest_len) return "host_arena";
    if (r.guest_map != guest_map) return "guest_release_map";
    if (r.host_map != VM_PAGE) return "host_release_map";
    *region = r;
    return NULL;
}

/* --- The guest's arena ------------------------------------------------------------------------ */

/* What the guest remembers of a granule, where the host cannot see it. */
struct block {
    uint32_t len; /* granules of the block that begins here, 0 if none does */
    uint8_t loan; /* the number of the latest loan of a block that began here */
    bool lent;
};
static struct block *blocks;
static uint32_t granules;

struct vm_loans vm_going;

void vm_connect(void *base, struct vm_region region, struct vm_method method)
{
    vm = region;
    vm_base = base;
    vm_method = method;
    granules = (uint32_t)(vm.guest_len / VM_GRANULE);
    blocks = calloc(granules, sizeof *blocks);
    if (blocks == NULL) abort();
}

static uint32_t granule(uint64_t word)
{
    /* P-1 */
    return (uint32_t)(((word & ((UINT64_C(1) << 48) - 1)) - vm.guest_arena) / VM_GRANULE);
}

static uint8_t *mark(uint32_t nr)
{
    return vm_base + vm.guest_map + nr; /* M-1 */
}

unsigned vm_in_use(void)
{
    unsigned count = 0;
    for (uint32_t at = 0; at < granules; at += blocks[at].len ? blocks[at].len : 1) {
        struct block *block = &blocks[at];
        if (block->len == 0) continue;
        /* M-3 */
        if (block->lent && __atomic_load_n(mark(at), __ATOMIC_ACQUIRE) == block->loan) {
            block->len = 0;
        } else {
            count++;
        }
    }
    return count;
}

uint64_t vm_new(uint64_t len)
{
    /* */
    uint64_t wanted = len == 0 ? 1 : up(len, VM_GRANULE) / VM_GRANULE;
    uint64_t room = 0;
    vm_in_use();
    for (uint32_t at = 0; at < granules;) {
        if (blocks[at].len != 0) {
            room = 0;
            at += blocks[at].len;
            continue;
        }
        at++;
        if (++room < wanted) continue;
        uint32_t first = at - (uint32_t)wanted;
        blocks[first].len = (uint32_t)wanted;
        blocks[first].lent = false;
        uint64_t offset = vm.guest_arena + (uint64_t)first * VM_GRANULE;
        memset(vm_base + offset, 0, wanted * VM_GRANULE); /* A-8, L-3 */
        return offset;
    }
    return 0;
}

void vm_free(uint64_t offset)
{
    blocks[granule(offset)].len = 0;
}

uint64_t vm_lend(uint64_t offset)
{
    uint32_t nr = granule(offset);
    struct block *block = &blocks[nr];
    block->loan = block->loan == UINT8_MAX ? 1 : block->loan + 1;   /* */
    __atomic_store_n(mark(nr), 0, __ATOMIC_RELAXED);             /* M-4 */
    block->lent = true;
    uint64_t word = offset | (uint64_t)block->loan << 56;         /* P-1 */
    if (vm_going.count == sizeof vm_going.words / sizeof *vm_going.words) abort();
    vm_going.words[vm_going.count++] = word;
    return word;
}

uint64_t vm_lend_bytes(const void *bytes, uint64_t len)
{
    if (len == 0) return 0; /* T-4 */
    uint64_t block = vm_new(len);
    if (block == 0) abort();
    memcpy(vm_base + block, bytes, len);
    return vm_lend(block);
}

/* S-4: what a call lent that was not reached is the guest's again, marked or not. */
void vm_take_back(const struct vm_loans *loans)
{
    for (unsigned i = 0; i < loans->count; i++) {
        struct block *block = &blocks[granule(loans->words[i])];
        if (block->lent && block->loan == loans->words[i] >> 56) block->len = 0;
    }
}

/* --- Traps and calls -------------------------------------------------------------------------- */

static struct vm_answer status(uint64_t number)
{
    return (struct vm_answer){number, 0, 0};
}

/* Whether the arguments of a call are consumed (S-3 to S-5). */
bool vm_consumed(uint64_t number)
{
    uint64_t why = number & ~(uint64_t)VM_REACHED;
    return number <= VM_APP || (number & VM_REACHED) != 0 || why < 2 || why > VM_PROTOCOL;
}

/* What serves a signature, or NULL. */
static const struct vm_entry *find(uint64_t signature)
{
    const struct vm_entry *entry = vm_entries;
    while (entry != NULL && entry->call != NULL && entry->signature != signature) entry++;
    return entry != NULL && entry->call != NULL ? entry : NULL;
}

static struct vm_answer serve(uint64_t signature, uint64_t primary, uint64_t secondary)
{
    if (vm_depth >= VM_MAX_DEPTH) return status(VM_TOO_DEEP); /* N-2 */
    if (signature == VM_HAS) /* SG-7, T-3 */
        return secondary != 0 ? status(VM_BAD_VALUE)
                              : (struct vm_answer){VM_OK, find(primary) != NULL, 0};
    if (signature == VM_BATCH) return vm_serve_batch(primary, secondary);
    return vm_serve(signature, primary, secondary);
}

struct vm_answer vm_serve(uint64_t signature, uint64_t primary, uint64_t secondary)
{
    const struct vm_entry *entry = find(signature);
    if (entry == NULL) return status(VM_UNKNOWN_FUNCTION); /* SG-6 */
    vm_depth++;
    struct vm_answer answer = entry->call(primary, secondary);
    vm_depth--;
    return answer;
}

/* TR-15, TR-16: traps, and runs upcalls until what was opened is completed. */
static struct vm_answer converse(struct vm_words out)
{
    for (;;) {
        struct vm_words back = vm_trap(out);
        if (back.kind == VM_ANSWER)
            return (struct vm_answer){back.word, back.primary, back.secondary};
        if (back.kind != VM_UPCALL) return status(VM_UNSUPPORTED); /* TR-4 */
        vm_going.count = 0;
        struct vm_answer done = serve(back.word, back.primary, back.secondary);
        if (done.status > VM_APP) vm_take_back(&vm_going);
        vm_going.count = 0;
        out = (struct vm_words){VM_RETURN, done.status, done.primary, done.secondary};
    }
}

struct vm_answer vm_call(uint64_t signature, uint64_t primary, uint64_t secondary)
{
    struct vm_loans loans = vm_going;
    struct vm_answer answer = status(VM_TOO_DEEP); /* N-2 */
    vm_going.count = 0;
    if (vm_depth < VM_MAX_DEPTH) {
        vm_depth++;
        answer = converse((struct vm_words){VM_CALL, signature, primary, secondary});
        vm_depth--;
    }
    if (!vm_consumed(answer.status)) vm_take_back(&loans);
    return answer;
}

uint64_t vm_ready(void)
{
    return converse((struct vm_words){VM_READY, 0, 0, 0}).status;
}

void vm_exit(uint64_t why)
{
    for (;;) vm_trap((struct vm_words){VM_EXIT, why, 0, 0});
}

/* --- The host's memory ------------------------------------------------------------------------ */

static uint64_t offset_of(uint64_t word)
{
    return word & ((UINT64_C(1) << 56) - 1); /* C-3: bits 48 to 55 stay */
}

const uint8_t *vm_bytes(uint64_t word, uint64_t len, uint64_t align)
{
    uint64_t offset = offset_of(word);
    if (offset < vm.host_arena || offset - vm.host_arena > vm.host_len) return NULL;
    if (len > vm.host_len - (offset - vm.host_arena) || offset % align != 0) return NULL;
    return vm_base + offset;
}

void vm_release(uint64_t word)
{
    uint8_t loan = (uint8_t)(word >> 56);
    if (loan == 0) return; /* */
    uint64_t nr = (offset_of(word) - vm.host_arena) / VM_GRANULE;
    __atomic_store_n(vm_base + vm.host_map + nr, loan, __ATOMIC_RELEASE); /* M-2 */
}

/* --- Wire forms ------------------------------------------------------------------------------- */

void *vm_field(struct vm_form *form, uint64_t size, uint64_t align)
{
    form->at = up(form->at, align);
    void *field = form->bytes + form->at;
    form->at += size;
    return field;
}

/* --- Types and signatures --------------------------------------------------------------------- */

/* L-2, behind what is there already: a variant's fields lie behind the enum's integer (TY-9). */
static struct vm_layout place(struct vm_layout all, const struct vm_layout *field)
{
    all.size = up(all.size, field->align) + field->size;
    if (field->align > all.align) all.align = field->align;
    return all;
}

static struct vm_layout fields(struct vm_layout all, const struct vm_named *field)
{
    for (; field != NULL && field->type != NULL; field++) {
        struct vm_layout one = vm_layout(field->type);
        all = place(all, &one);
    }
    return all;
}

static unsigned count_fields(const struct vm_named *fields)
{
    unsigned count = 0;
    while (fields != NULL && fields[count].type != NULL) count++;
    return count;
}

struct vm_layout vm_layout(const struct vm_type *type)
{
    struct vm_layout all = {0, 1};
    switch (type->kind) {
    case VM_ARRAY: /* TY-14 */
        all = vm_layout(type->of);
        all.size *= type->size;
        break;
    case VM_TUPLE: /* TY-15 */
    case VM_STRUCT:
        all = fields(all, type->fields);
        break;
    case VM_ENUM:
        all = vm_layout(type->of);
        for (const struct vm_variant *v = type->variants; v->name != NULL; v++) {
            struct vm_layout one = fields(vm_layout(type->of), v->fields);
            if (one.size > all.size) all.size = one.size;
            if (one.align > all.align) all.align = one.align;
        }
        break;
    case VM_OPTION:
        all = vm_layout(type->of);
        if (type->of->kind != VM_HANDLE) { /* TY-10, TY-11 */
            struct vm_layout value = all;
            all = place((struct vm_layout){4, 4}, &value);
        }
        break;
    default:
        all = (struct vm_layout){type->size, type->align};
    }
    all.size = up(all.size, all.align);
    return all;
}

/* SG-2, SG-3 */
static uint64_t number(uint64_t h, uint64_t value)
{
    for (int i = 0; i < 8; i++) h = (h ^ (value >> 8 * i & 0xff)) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t text(uint64_t h, const char *bytes)
{
    h = number(h, strlen(bytes));
    while (*bytes != 0) h = (h ^ (uint8_t)*bytes++) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t start(const char *bytes)
{
    return text(UINT64_C(0xcbf29ce484222325), bytes);
}

static uint64_t finish(uint64_t h)
{
    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 31;
}

static uint64_t hash_fields(uint64_t h, struct vm_layout all, const struct vm_named *field)
{
    for (; field != NULL && field->type != NULL; field++) {
        struct vm_layout one = vm_layout(field->type);
        if (field->name != NULL) h = text(h, field->name);
        h = number(number(h, up(all.size, one.align)), vm_hash(field->type));
        all = place(all, &one);
    }
    return h;
}

uint64_t vm_hash(const struct vm_type *type)
{
    struct vm_layout all = vm_layout(type);
    uint64_t h;
    /* SG-4 */
    switch (type->kind) {
    case VM_ARRAY:
        h = number(number(start("array"), vm_hash(type->of)), type->size);
        break;
    case VM_TUPLE:
        h = number(start("tuple"), count_fields(type->fields));
        for (const struct vm_named *f = type->fields; f->type != NULL; f++)
            h = number(h, vm_hash(f->type));
        break;
    case VM_STRUCT:
        h = number(number(text(start("struct"), type->name), all.size), all.align);
        h = hash_fields(h, (struct vm_layout){0, 1}, type->fields);
        break;
    case VM_ENUM:
        h = number(number(text(start("enum"), type->name), all.size), all.align);
        h = text(h, type->of->name);
        for (const struct vm_variant *v = type->variants; v->name != NULL; v++)
            h = hash_fields(number(text(h, v->name), (uint64_t)v->number), vm_layout(type->of),
                            v->fields);
        break;
    default:
        h = start(type->name);
        if (type->of != NULL) h = number(h, vm_hash(type->of));
        if (type->error != NULL) h = number(h, vm_hash(type->error));
    }
    return finish(h);
}

uint64_t vm_signature(const struct vm_function *function)
{
    uint64_t count = 0;
    while (function->parameters[count] != NULL) count++;
    uint64_t h = number(text(text(start("fn"), function->interface), function->name), count);
    for (uint64_t i = 0; i < count; i++) h = number(h, vm_hash(function->parameters[i]));
    return finish(number(h, vm_hash(function->result)));
}

/* --- The contract ----------------------------------------------------------------------------- */

static void put(struct vm_contract *contract, uint64_t value, unsigned len)
{
    if (contract->len + len > contract->room) abort();
    memcpy(contract->bytes + contract->len, &value, len);
    contract->len += len;
}

static void put_text(struct vm_contract *contract, const char *bytes)
{
    put(contract, strlen(bytes), 2);
    while (*bytes != 0) put(contract, (uint8_t)*bytes++, 1);
}

struct vm_contract vm_contract(uint8_t *bytes, uint64_t room)
{
    struct vm_contract contract = {.bytes = bytes, .room = room};
    put(&contract, 0, 2);
    return contract;
}

static uint16_t place_of(struct vm_contract *contract, const struct vm_type *type);

static void put_fields(struct vm_contract *contract, struct vm_layout all,
                       const struct vm_named *fields)
{
    unsigned count = count_fields(fields);
    put(contract, count, 2);
    for (unsigned i = 0; i < count; i++) {
        struct vm_layout one = vm_layout(fields[i].type);
        put_text(contract, fields[i].name != NULL ? fields[i].name : "");
        put(contract, up(all.size, one.align), 4);
        put(contract, place_of(contract, fields[i].type), 2);
        all = place(all, &one);
    }
}

static void fields_before(struct vm_contract *contract, const struct vm_named *fields)
{
    for (unsigned i = 0; i < count_fields(fields); i++) place_of(contract, fields[i].type);
}

/* CT-7: what a record names has one before it. */
static void before(struct vm_contract *contract, const struct vm_type *type)
{
    if (type->of != NULL && type->kind != VM_ENUM) place_of(contract, type->of);
    if (type->error != NULL) place_of(contract, type->error);
    fields_before(contract, type->fields);
    for (const struct vm_variant *v = type->variants; v != NULL && v->name != NULL; v++)
        fields_before(contract, v->fields);
}

/* Where a type's record is among those of types; writes it if there is none. */
static uint16_t place_of(struct vm_contract *contract, const struct vm_type *type)
{
    uint64_t hash = vm_hash(type);
    for (uint16_t i = 0; i < contract->types; i++)
        if (contract->hashes[i] == hash) return i;
    before(contract, type);
    struct vm_layout all = vm_layout(type);
    bool declared = type->kind == VM_STRUCT || type->kind == VM_ENUM;
    bool unnamed = type->kind == VM_ARRAY || type->kind == VM_TUPLE;
    static const uint8_t kinds[] = {[VM_STRUCT] = 1, [VM_ENUM] = 2, [VM_ARRAY] = 4, [VM_TUPLE] = 5};
    put(contract, kinds[type->kind], 1);
    if (!unnamed) put_text(contract, type->name);
    if (declared) put(contract, all.size, 4), put(contract, all.align, 4);
    if (type->kind == VM_ARRAY) {
        put(contract, place_of(contract, type->of), 2);
        put(contract, type->size, 8);
    } else if (type->kind == VM_TUPLE) {
        put(contract, count_fields(type->fields), 1);
        for (const struct vm_named *field = type->fields; field->type != NULL; field++)
            put(contract, place_of(contract, field->type), 2);
    } else if (type->kind == VM_STRUCT) {
        put_fields(contract, (struct vm_layout){0, 1}, type->fields);
    } else if (type->kind == VM_ENUM) {
        unsigned count = 0;
        while (type->variants[count].name != NULL) count++;
        put_text(contract, type->of->name);
        put(contract, count, 2);
        for (const struct vm_variant *v = type->variants; v->name != NULL; v++) {
            put_text(contract, v->name);
            put(contract, (uint64_t)v->number, 8);
            put_fields(contract, vm_layout(type->of), v->fields);
        }
    } else {
        put(contract, (type->of != NULL) + (type->error != NULL), 1);
        if (type->of != NULL) put(contract, place_of(contract, type->of), 2);
        if (type->error != NULL) put(contract, place_of(contract, type->error), 2);
    }
    if (contract->types == sizeof contract->hashes / sizeof *contract->hashes) abort();
    contract->hashes[contract->types++] = hash;
    contract->records++;
    return contract->types - 1;
}

void vm_tell(struct vm_contract *contract, uint8_t flags, const struct vm_function *function)
{
    const struct vm_type *const *parameters = function->parameters;
    unsigned count = 0;
    for (; parameters[count] != NULL; count++) place_of(contract, parameters[count]);
    place_of(contract, function->result);
    put(contract, 3, 1);
    put(contract, flags, 1);
    put_text(contract, function->interface);
    put_text(contract, function->name);
    put(contract, count, 2);
    for (unsigned i = 0; i < count; i++) {
        put_text(contract, (char[]){(char)('a' + i), 0}); /* names are not kept here */
        put(contract, place_of(contract, parameters[i]), 2);
    }
    put(contract, place_of(contract, function->result), 2);
    contract->records++;
}

uint64_t vm_meet(struct vm_contract *contract)
{
    memcpy(contract->bytes, &contract->records, 2);
    uint64_t word = vm_lend_bytes(contract->bytes, contract->len);
    return vm_call(VM_HANDSHAKE, word, contract->len).status;
}
