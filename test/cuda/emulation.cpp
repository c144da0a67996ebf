/*
 * emulation.cpp: fibers, shared memory and the barriers of emulation.h.
 *
 * A block's threads run in turn on stacks of their own; whoever arrives last at
 * a barrier lets all go on. The way round a block and the order of the
 * blocks differ from launch to launch, by a fixed sequence.
 */
#include "test/cuda/emulation.h"

#include <map>
#include <numeric>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

#define STACK        (64 * 1024)
#define MOST_THREADS 1024
#define WARP         32

moe_emulated_place moe_emulated;

namespace
{
enum state
{
    READY,
    AT_BARRIER,
    AT_WARP,
    DONE
};

struct fiber
{
    void *stack;
#ifdef __x86_64__
    void *top; /* saved stack pointer */
#else
    ucontext_t context;
#endif
    void *sanitizer; /* the address sanitizer's name for the stack when it is left */
    dim3 thread;
    state now;
    int exchanges;
};

struct warp
{
    int arrived;
    uint64_t values[2][WARP];
};

fiber fibers[MOST_THREADS];
fiber scheduler;
fiber *current;
warp warps[MOST_THREADS / WARP];
int thread_count;
int at_barrier;
const std::function<void()> *running;
std::map<const void *, std::pair<void *, size_t>> shared;
uint64_t draws = 1;

[[noreturn]] void
broken(const char *what)
{
    fprintf(stderr, "emulated device: block %u, thread %u: %s\n", moe_emulated.block.x, moe_emulated.thread.x, what);
    abort();
}

uint64_t
draw()
{
    draws = draws * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return draws >> 33;
}

#ifdef __x86_64__
/* Save what a call must keep, change stacks, and return to where the other one was left. */
extern "C" void moe_emulated_switch(void **from, void *to);
__asm__(".text\n"
        ".type moe_emulated_switch,@function\n"
        "moe_emulated_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size moe_emulated_switch,.-moe_emulated_switch\n");
#endif

#if defined(__SANITIZE_ADDRESS__)
/* The caller's stack, which the address sanitizer wants to know on return to it. */
const void *scheduler_bottom;
size_t scheduler_size;
#endif

void
change(fiber *from, fiber *to, bool for_good)
{
#if defined(__SANITIZE_ADDRESS__)
    bool home = to == &scheduler;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from->sanitizer, home ? scheduler_bottom : to->stack,
                                   home ? scheduler_size : STACK);
#endif
#ifdef __x86_64__
    moe_emulated_switch(&from->top, to->top);
#else
    swapcontext(&from->context, &to->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from->sanitizer, nullptr, nullptr);
#endif
}

void
fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
    (*running)();
    current->now = DONE;
    change(current, &scheduler, true);
    abort();
}

/* Let a fiber start at fiber_main when it is next changed to. */
void
prepare(fiber *f)
{
    if (f->stack == nullptr)
        f->stack = aligned_alloc(64, STACK);
    f->now = READY;
    f->exchanges = 0;
    f->sanitizer = nullptr;
#ifdef __x86_64__
    void **top = (void **) ((char *) f->stack + STACK);
    *--top = nullptr; /* where fiber_main would return to: on entry the stack is off its alignment by a word */
    *--top = (void *) fiber_main;
    top -= 6;
    memset(top, 0, 6 * sizeof *top);
    f->top = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
#endif
}

/* Run a warp until each of its threads waits at the block's barrier or is done. */
bool
run_warp(int w)
{
    bool ran = false, any = true;
    int first = w * WARP, last = first + WARP < thread_count ? first + WARP : thread_count;
    while (any)
    {
        any = false;
        for (int t = first; t < last; t++)
        {
            if (fibers[t].now != READY)
                continue;
            any = ran = true;
            current = &fibers[t];
            moe_emulated.thread = current->thread;
            change(&scheduler, current, false);
        }
    }
    return ran;
}

void
run_block(dim3 threads)
{
    int warp_count = (thread_count + WARP - 1) / WARP, turn = (int) (draw() % (uint64_t) warp_count);
    for (auto &one : shared)
        memset(one.second.first, 0xff, one.second.second);
    at_barrier = 0;
    for (int t = 0; t < thread_count; t++)
    {
        fibers[t].thread = dim3((unsigned int) t % threads.x, (unsigned int) t / threads.x % threads.y,
                                (unsigned int) t / threads.x / threads.y);
        prepare(&fibers[t]);
    }
    for (int w = 0; w < warp_count; w++)
        warps[w].arrived = 0;
    bool ran = true;
    while (ran)
    {
        ran = false;
        for (int w = 0; w < warp_count; w++)
            ran = run_warp((w + turn) % warp_count) || ran;
    }
    for (int t = 0; t < thread_count; t++)
    {
        if (fibers[t].now != DONE)
            broken(fibers[t].now == AT_BARRIER ? "a barrier that not all threads of the block reach"
                                               : "a warp operation that not all lanes reach");
    }
}
} // namespace

void
moe_emulated_launch(dim3 blocks, dim3 threads, const std::function<void()> &kernel)
{
    size_t count = (size_t) blocks.x * blocks.y * blocks.z;
    std::vector<size_t> order(count);
    thread_count = (int) (threads.x * threads.y * threads.z);
    if (count == 0 || thread_count == 0 || thread_count > MOST_THREADS || thread_count % WARP != 0 ||
        blocks.y > 65535 || blocks.z > 65535)
        broken("a launch of a shape that a card would refuse, or that leaves a warp incomplete");
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = count; i > 1; i--)
        std::swap(order[i - 1], order[draw() % i]);
    running = &kernel;
    moe_emulated.blocks = blocks;
    moe_emulated.threads = threads;
    for (size_t b : order)
    {
        moe_emulated.block = dim3((unsigned int) (b % blocks.x), (unsigned int) (b / blocks.x % blocks.y),
                                  (unsigned int) (b / blocks.x / blocks.y));
        run_block(threads);
    }
    for (auto &one : shared)
        free(one.second.first);
    shared.clear();
}

void *
moe_emulated_shared(const void *key, size_t size)
{
    auto found = shared.find(key);
    if (found != shared.end())
        return found->second.first;
    size_t total = size;
    for (auto &one : shared)
        total += one.second.second;
    if (total > 48 * 1024)
        broken("more than 48 kB of shared memory");
    void *memory = malloc(size);
    memset(memory, 0xff, size);
    shared[key] = {memory, size};
    return memory;
}

void
moe_emulated_barrier()
{
    if (++at_barrier == thread_count)
    {
        at_barrier = 0;
        for (int t = 0; t < thread_count; t++)
            fibers[t].now = READY;
        return;
    }
    fiber *self = current;
    self->now = AT_BARRIER;
    change(self, &scheduler, false);
}

const uint64_t *
moe_emulated_exchange(unsigned int mask, uint64_t value)
{
    fiber *self = current;
    int t = (int) (self - fibers);
    warp *w = &warps[t / WARP];
    uint64_t *values = w->values[self->exchanges++ % 2];
    if (mask != 0xffffffffu)
        broken("a warp operation of some lanes only");
    values[t % WARP] = value;
    if (++w->arrived == WARP)
    {
        w->arrived = 0;
        for (int lane = t / WARP * WARP; lane < (t / WARP + 1) * WARP; lane++)
            fibers[lane].now = READY;
        return values;
    }
    self->now = AT_WARP;
    change(self, &scheduler, false);
    return values;
}
