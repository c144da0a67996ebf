/*
 * statement_redirect.c: send the server's calls of raw_parser() to us.
 *
 * PostgreSQL has no parser hook, and its parser is reached by direct calls.
 * In the postmaster, before any child exists, each `call rel32` or `jmp rel32`
 * of the server's text that leads to raw_parser() is given another 32-bit
 * displacement: that of a thunk, in a page of its own within reach, which
 * jumps to moe_raw_parser(). raw_parser() itself stays untouched and is what
 * moe_raw_parser() calls. Backends inherit the change by fork. PL/pgSQL calls
 * raw_parser() from its own library, through a slot of its global offset
 * table; that is set in each backend before it first matters.
 *
 * Invariants: no page is ever writable and executable at once; signals are
 * blocked while text is not executable; every change is undone if a check or
 * the self-test fails, and then the server is as it was.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "postgres.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "commands/proclang.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "extension/statement_internal.h"

#if defined(__x86_64__) && defined(__linux__)

/* pg_parse_query, typeStringToTypeName, and two in SPI are there in every version. */
#define MIN_CALLS   4
#define MAX_CALLS   32
#define CALL_LENGTH 5
#define REACH       ((int64) 1 << 30)

static uint8 *text_start; /* the server's executable segment */
static uint8 *text_end;
static uint8 *call_sites[MAX_CALLS];
static int n_calls;
static void **plpgsql_slot; /* in plpgsql's global offset table */
static const char *plpgsql_problem;
static uintptr_t page_size;

static uint8 *
page_of(const void *address)
{
    return (uint8 *) ((uintptr_t) address & ~(page_size - 1));
}

/* The first object is the main program. Its executable segment must hold raw_parser. */
static int
find_text(struct dl_phdr_info *info, size_t size, void *argument)
{
    int i;

    for (i = 0; i < info->dlpi_phnum; i++)
    {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uint8 *start = (uint8 *) (info->dlpi_addr + segment->p_vaddr);

        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) && (uint8 *) raw_parser >= start &&
            (uint8 *) raw_parser < start + segment->p_filesz)
        {
            text_start = start;
            text_end = start + segment->p_filesz;
        }
    }
    return 1;
}

static int32
displacement(const uint8 *site)
{
    int32 value;

    memcpy(&value, site + 1, sizeof(value));
    return value;
}

/* The sites whose exact target is raw_parser; false if their number is not credible. */
static bool
find_calls(void)
{
    uint8 *at;

    for (at = text_start; at + CALL_LENGTH <= text_end; at++)
    {
        if ((*at != 0xE8 && *at != 0xE9) || at + CALL_LENGTH + displacement(at) != (uint8 *) raw_parser)
            continue;
        if (n_calls == MAX_CALLS)
            return false;
        call_sites[n_calls++] = at;
        at += CALL_LENGTH - 1;
    }
    return n_calls >= MIN_CALLS;
}

/* A fresh page at most 1 GB from the text, below it (the heap grows above) or else above; NULL if none is free. */
static uint8 *
map_near(void)
{
    int64 step = 1 << 20;
    int64 distance;

    for (distance = step; distance < REACH; distance += step)
    {
        uint8 *wanted[2] = {page_of(text_start) - distance, page_of(text_end) + distance};
        int i;

        for (i = 0; i < 2; i++)
        {
            void *page;

            if (i == 0 && (uintptr_t) text_start <= (uintptr_t) distance + page_size)
                continue;
            page = mmap(wanted[i], page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                        -1, 0);
            if (page == wanted[i])
                return page;
            if (page != MAP_FAILED) /* a kernel that does not know the flag */
                munmap(page, page_size);
        }
    }
    return NULL;
}

/* endbr64; jmp *[rip + 0]; the address. NULL if the page cannot be had or made executable. */
static uint8 *
make_thunk(void)
{
    static const uint8 code[] = {0xF3, 0x0F, 0x1E, 0xFA, 0xFF, 0x25, 0, 0, 0, 0};
    void *target = (void *) moe_raw_parser;
    uint8 *thunk = map_near();

    if (thunk == NULL)
        return NULL;
    memcpy(thunk, code, sizeof(code));
    memcpy(thunk + sizeof(code), &target, sizeof(target));
    if (mprotect(thunk, page_size, PROT_READ | PROT_EXEC) != 0)
    {
        munmap(thunk, page_size);
        return NULL;
    }
    return thunk;
}

/*
 * May text of the server's file be changed and made executable again? A
 * security policy may forbid the latter; find out on another mapping of it.
 */
static bool
rehearse(void)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    bool allowed = false;
    uint8 *page;

    if (file < 0)
        return false;
    page = mmap(NULL, page_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    if (page != MAP_FAILED)
    {
        if (mprotect(page, page_size, PROT_READ | PROT_WRITE) == 0)
        {
            *(volatile uint8 *) page ^= 1;
            allowed = mprotect(page, page_size, PROT_READ | PROT_EXEC) == 0;
        }
        munmap(page, page_size);
    }
    close(file);
    return allowed;
}

/*
 * Point one call at target. Nothing of the server may run while its page is
 * not executable, so the caller blocks signals, and nothing is called here
 * but the C library.
 */
static bool
point_call(uint8 *site, const void *target)
{
    uint8 *page = page_of(site + 1);
    size_t length = site + CALL_LENGTH - page;
    int64 distance = (int64) ((intptr_t) target - (intptr_t) (site + CALL_LENGTH));
    int32 value = (int32) distance;

    if (distance != value)
        return false;
    if (mprotect(page, length, PROT_READ | PROT_WRITE) != 0)
        return false;
    memcpy(site + 1, &value, sizeof(value));
    if (mprotect(page, length, PROT_READ | PROT_EXEC) != 0)
        abort(); /* rehearsed: the server could not go on without this page */
    return true;
}

/* All calls; those already changed go back to raw_parser if one fails. */
static bool
point_calls(const void *target)
{
    sigset_t all;
    sigset_t before;
    bool done = true;
    int i;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    for (i = 0; i < n_calls && done; i++)
        done = point_call(call_sites[i], target);
    if (!done)
    {
        for (i--; i-- > 0;)
            (void) point_call(call_sites[i], (void *) raw_parser);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return done;
}

/* A pointer in the dynamic section: the C library has relocated some of them already. */
static uint8 *
dynamic_pointer(const struct dl_phdr_info *info, ElfW(Addr) value)
{
    return (uint8 *) (value < info->dlpi_addr ? info->dlpi_addr + value : value);
}

/* Set plpgsql_slot if one of the relocations fills a slot with raw_parser's address. */
static void
search_relocations(const struct dl_phdr_info *info, const ElfW(Rela) * relocation, size_t size,
                   const ElfW(Sym) * symbols, const char *names)
{
    size_t i;

    for (i = 0; i < size / sizeof(*relocation); i++)
    {
        int type = ELF64_R_TYPE(relocation[i].r_info);
        void **slot = (void **) (info->dlpi_addr + relocation[i].r_offset);

        if ((type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT) &&
            strcmp(names + symbols[ELF64_R_SYM(relocation[i].r_info)].st_name, "raw_parser") == 0 &&
            *slot == (void *) raw_parser)
            plpgsql_slot = slot;
    }
}

static int
find_plpgsql_slot(struct dl_phdr_info *info, size_t size, void *argument)
{
    const char *suffix = "/plpgsql.so";
    size_t length = strlen(info->dlpi_name);
    const ElfW(Dyn) *entry = NULL;
    ElfW(Addr) values[DT_JMPREL + 1] = {0};
    int i;

    if (length < strlen(suffix) || strcmp(info->dlpi_name + length - strlen(suffix), suffix) != 0)
        return 0;
    for (i = 0; i < info->dlpi_phnum; i++)
    {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *) (info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    }
    for (; entry && entry->d_tag != DT_NULL; entry++)
    {
        if (entry->d_tag > 0 && entry->d_tag <= DT_JMPREL)
            values[entry->d_tag] = entry->d_un.d_val;
    }
    if (values[DT_SYMTAB] && values[DT_STRTAB])
    {
        const ElfW(Sym) *symbols = (const ElfW(Sym) *) dynamic_pointer(info, values[DT_SYMTAB]);
        const char *names = (const char *) dynamic_pointer(info, values[DT_STRTAB]);

        if (values[DT_JMPREL])
            search_relocations(info, (const ElfW(Rela) *) dynamic_pointer(info, values[DT_JMPREL]), values[DT_PLTRELSZ],
                               symbols, names);
        if (values[DT_RELA])
            search_relocations(info, (const ElfW(Rela) *) dynamic_pointer(info, values[DT_RELA]), values[DT_RELASZ],
                               symbols, names);
    }
    return 1;
}

/* Does the loader keep this page read-only after relocation? */
static int
is_relro(struct dl_phdr_info *info, size_t size, void *address)
{
    int i;

    for (i = 0; i < info->dlpi_phnum; i++)
    {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uint8 *start = (uint8 *) (info->dlpi_addr + segment->p_vaddr);

        if (segment->p_type == PT_GNU_RELRO && page_of(address) >= page_of(start) &&
            page_of(address) < page_of(start + segment->p_memsz))
            return 1;
    }
    return 0;
}

static bool
point_plpgsql(void *target)
{
    uint8 *page = page_of(plpgsql_slot);
    bool read_only = dl_iterate_phdr(is_relro, plpgsql_slot) != 0;

    if (mprotect(page, page_size, PROT_READ | PROT_WRITE) != 0)
        return false;
    *plpgsql_slot = target;
    if (read_only)
        mprotect(page, page_size, PROT_READ);
    return true;
}

/*
 * PL/pgSQL checks the statements in a function's body when the function is
 * created. Its library is loaded by each backend that needs it, so this is
 * done there, just before: only data changes.
 */
void
moe_redirect_plpgsql(void)
{
    static bool done = false;

    if (done || n_calls == 0)
        return;
    load_file("$libdir/plpgsql", false);
    done = true;
    dl_iterate_phdr(find_plpgsql_slot, NULL);
    if (plpgsql_slot == NULL)
        plpgsql_problem = "plpgsql does not call raw_parser() in a known way";
    else if (!point_plpgsql((void *) moe_raw_parser))
        plpgsql_problem = "plpgsql's memory cannot be changed";
    if (plpgsql_problem)
        ereport(LOG,
                errmsg("moe_ml: CREATE MODEL is not available as a plain statement in PL/pgSQL: %s", plpgsql_problem),
                errhint("Use EXECUTE 'CREATE MODEL ...' or PERFORM moe_ml.execute('...')."));
}

/* Is this string parsed, by the server's own functions, into one statement of this type? */
static bool
parses_to(const char *source, NodeTag tag)
{
    List *parsed = pg_parse_query(source);

    return list_length(parsed) == 1 && nodeTag(linitial_node(RawStmt, parsed)->stmt) == tag;
}

static bool
test_server(void)
{
    int64 before = moe_raw_parser_calls();

#if PG_VERSION_NUM >= 160000
    (void) typeStringToTypeName("integer", NULL);
#else
    (void) typeStringToTypeName("integer");
#endif
    return moe_raw_parser_calls() == before + 1 && parses_to("SELECT 1", T_SelectStmt) &&
           parses_to("/* model */ DROP MODEL self_test", T_DoStmt) && moe_raw_parser_calls() == before + 3;
}

/* Have the server parse something, without the catalog: our function must be reached. */
static bool
self_test(void)
{
    MemoryContext context = CurrentMemoryContext;
    MemoryContext scratch = AllocSetContextCreate(context, "moe_ml self-test", ALLOCSET_SMALL_SIZES);
    volatile bool passed = false;

    MemoryContextSwitchTo(scratch);
    PG_TRY();
    {
        passed = test_server();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(scratch);
        FlushErrorState();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    MemoryContextDelete(scratch);
    return passed;
}

const char *
moe_redirect_install(void)
{
    uint8 *thunk;

    page_size = sysconf(_SC_PAGESIZE);
    dl_iterate_phdr(find_text, NULL);
    if (text_start == NULL)
        return "raw_parser() is not part of the server's program";
    if (!find_calls())
    {
        MemoryContext before = MemoryContextSwitchTo(TopMemoryContext); /* backends report it */
        const char *problem = psprintf("found %d calls of raw_parser(), which is not what is expected", n_calls);

        MemoryContextSwitchTo(before);
        return problem;
    }
    if (!rehearse())
        return "the system does not allow a program's text to be changed";
    thunk = make_thunk();
    if (thunk == NULL)
        return "no memory near the server's program";
    if (!point_calls(thunk))
    {
        munmap(thunk, page_size);
        return "the server's program cannot be changed";
    }
    if (!self_test())
    {
        if (point_calls((void *) raw_parser))
            munmap(thunk, page_size);
        return "the self-test failed";
    }
    return NULL;
}

const char *
moe_redirect_summary(void)
{
    const char *plpgsql = "PL/pgSQL is not installed here";

    if (OidIsValid(get_language_oid("plpgsql", true)))
    {
        moe_redirect_plpgsql();
        plpgsql = plpgsql_problem ? plpgsql_problem : "and those of PL/pgSQL";
    }
    return psprintf("%d calls of the server, %s", n_calls, plpgsql);
}

#else

const char *
moe_redirect_install(void)
{
    return "it is known how to do so on Linux on x86-64 only";
}

void
moe_redirect_plpgsql(void)
{
}

const char *
moe_redirect_summary(void)
{
    return "";
}

#endif
