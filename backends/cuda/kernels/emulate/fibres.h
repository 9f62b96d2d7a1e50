// Threads of a block as fibres. Included once by a program. The switch of stacks is written out for x86-64, where
// swapcontext spends most of a run in system calls; elsewhere it serves.
#pragma once

#include <functional>
#include <vector>

#ifdef __x86_64__
extern "C" void ssdc_switch(void **from, void *to);
asm(R"(
.text
.globl ssdc_switch
.hidden ssdc_switch
.type ssdc_switch, @function
ssdc_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
struct Fibre {
  void *stack;
  void start(char *room, size_t size, void (*f)()) {
    void **top = (void **)((uintptr_t)(room + size) & ~(uintptr_t)15);
    top[-1] = nullptr;  // where f would return to
    top[-2] = (void *)f;
    for (int i = 3; i <= 8; i++) top[-i] = nullptr;
    stack = top - 8;
  }
  void to(Fibre &other) { ssdc_switch(&stack, other.stack); }
};
#else
#include <ucontext.h>
struct Fibre {
  ucontext_t context;
  void start(char *room, size_t size, void (*f)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = room;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, f, 0);
  }
  void to(Fibre &other) { swapcontext(&context, &other.context); }
};
#endif

alignas(1024) unsigned char raw_shared[240 * 1024];
Index threadIdx, blockIdx, blockDim, gridDim;
unsigned char exchange[kMaxThreads][64];
Copies copies[kMaxThreads];

static Fibre scheduler, fibre[kMaxThreads];
static bool finished[kMaxThreads];
static int arrived[64], generation[64];
static std::function<void()> body;

void arrive_and_wait(int barrier, int threads) {
  const int mine = generation[barrier], self = threadIdx.x;
  if (++arrived[barrier] == threads) {
    arrived[barrier] = 0;
    generation[barrier]++;
    return;
  }
  while (generation[barrier] == mine) {
    fibre[self].to(scheduler);
    threadIdx.x = self;
  }
}

static void enter() {
  const int self = threadIdx.x;
  body();
  finished[self] = true;
  fibre[self].to(scheduler);
  abort();
}

static void launch(int blocks, int threads, std::function<void()> f, bool backwards = false) {
  constexpr size_t room = 1 << 16;
  static std::vector<char> stacks(kMaxThreads * room);
  body = f;
  blockDim.x = threads;
  gridDim.x = blocks;
  for (int b = 0; b < blocks; b++) {
    blockIdx.x = backwards ? blocks - 1 - b : b;
    for (unsigned i = 0; i < sizeof raw_shared; i += 2) raw_shared[i] = 0xC0, raw_shared[i + 1] = 0x7F;  // NaN
    memset(arrived, 0, sizeof arrived);
    for (int t = 0; t < threads; t++) {
      fibre[t].start(&stacks[t * room], room, enter);
      finished[t] = false;
      copies[t].n = copies[t].group = 0;
    }
    for (bool more = true; more;) {
      more = false;
      for (int i = 0; i < threads; i++) {
        const int t = b % 2 ? threads - 1 - i : i;  // both orders
        if (!finished[t]) {
          more = true;
          threadIdx.x = t;
          scheduler.to(fibre[t]);
        }
      }
    }
  }
}
