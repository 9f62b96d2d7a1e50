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

alignas(1024) unsigned char raw_shared[kSharedBytes];
Index threadIdx, blockIdx, blockDim, gridDim;
unsigned char (*exchange)[64];
Copies *copies;

// A block: its memory and its threads. Blocks run one after another, but for those of a launch that meet one another.
struct BlockOfThreads {
  unsigned char *shared = raw_shared;  // where it is kept while another block runs
  unsigned char (*exchange)[64] = (unsigned char(*)[64])calloc(kMaxThreads, 64);
  Copies *copies = new Copies[kMaxThreads];
  std::vector<BulkCopy> bulk;
  char *stacks = (char *)malloc(kMaxThreads * room);
  Fibre fibre[kMaxThreads];
  bool finished[kMaxThreads];
  int arrived[64], generation[64];
  static constexpr size_t room = 1 << 16;
};
static BlockOfThreads *current;
static Fibre scheduler;
static long long progress;
static std::function<void()> body;

static void enter() {
  const int self = threadIdx.x;
  body();
  current->finished[self] = true;
  progress++;
  current->fibre[self].to(scheduler);
  abort();
}

static void start(BlockOfThreads &b, int threads) {
  for (unsigned i = 0; i < kSharedBytes; i += 2) b.shared[i] = 0xC0, b.shared[i + 1] = 0x7F;  // NaN
  memset(b.arrived, 0, sizeof b.arrived);
  b.bulk.clear();
  for (int t = 0; t < threads; t++) {
    b.fibre[t].start(b.stacks + t * BlockOfThreads::room, BlockOfThreads::room, enter);
    b.finished[t] = false;
    b.copies[t].n = b.copies[t].group = 0;
  }
}

// Lets every thread of block b go on once; whether any is left.
static bool advance(BlockOfThreads &b, int number, int threads) {
  bool more = false;
  if (current != &b && b.shared != raw_shared) {
    if (current && current->shared != raw_shared) memcpy(current->shared, raw_shared, kSharedBytes);
    memcpy(raw_shared, b.shared, kSharedBytes);
  }
  current = &b, exchange = b.exchange, copies = b.copies, blockIdx.x = number;
  for (int i = 0; i < threads; i++) {
    const int t = number % 2 ? threads - 1 - i : i;  // both orders
    if (!b.finished[t]) {
      more = true;
      threadIdx.x = t;
      scheduler.to(b.fibre[t]);
    }
  }
  return more;
}

// Until another thread may have changed what this one waits for.
static void yield() {
  BlockOfThreads *mine = current;
  const int self = threadIdx.x;
  mine->fibre[self].to(scheduler);
  threadIdx.x = self;  // the scheduler has made `mine` the current block again
}

void arrive_and_wait(int barrier, int threads) {
  int &now = current->generation[barrier];
  const int mine = now;
  progress++;
  if (++current->arrived[barrier] == threads) {
    current->arrived[barrier] = 0;
    now++;
    return;
  }
  while (now == mine) yield();
}

void arrive_at(int barrier, int threads) {
  progress++;
  if (++current->arrived[barrier] < threads) return;
  current->arrived[barrier] = 0;
  current->generation[barrier]++;
}

struct SharedBarrier { uint8_t phase, arrivals, pending, unused; int bytes; };
static SharedBarrier &barrier_at(uint32_t bar) { return *(SharedBarrier *)at_shared(bar); }
static void settle(SharedBarrier &b) {
  if (b.pending || b.bytes) return;
  b.phase ^= 1, b.pending = b.arrivals;
  progress++;
}
void mbarrier_init(uint32_t bar, int arrivals) { barrier_at(bar) = {0, (uint8_t)arrivals, (uint8_t)arrivals, 0, 0}; }
void mbarrier_arrive(uint32_t bar) {
  SharedBarrier &b = barrier_at(bar);
  if (!b.pending) { fprintf(stderr, "more arrivals than the barrier expects\n"); abort(); }
  b.pending--;
  settle(b);
}
void mbarrier_expect(uint32_t bar, int bytes) {
  barrier_at(bar).bytes += bytes;
  mbarrier_arrive(bar);
}
void mbarrier_wait(uint32_t bar, int parity) {
  while (true) {
    for (size_t i = 0; i < current->bulk.size();) {  // bulk copies, too, land when they are waited for
      BulkCopy &c = current->bulk[i];
      if (c.bar != bar) { i++; continue; }
      memcpy(at_shared(c.dst), c.src, c.bytes);
      barrier_at(bar).bytes -= c.bytes;
      c = current->bulk.back();
      current->bulk.pop_back();
      settle(barrier_at(bar));
    }
    if (barrier_at(bar).phase != parity) return;
    yield();
  }
}
void bulk_load(uint32_t dst, const void *src, int bytes, uint32_t bar, uint64_t) {
  if (dst % 16 || (uintptr_t)src % 16 || bytes % 16 || bytes <= 0) { fprintf(stderr, "misaligned bulk copy\n"); abort(); }
  current->bulk.push_back({dst, src, bytes, bar});
}
void wait_for_count(const int *counter, int target) {
  while (*counter < target) yield();
  progress++;
}
void look_again() { yield(); }

static void launch(int blocks, int threads, std::function<void()> f, bool backwards = false) {
  static BlockOfThreads one;
  body = f;
  blockDim.x = threads;
  gridDim.x = blocks;
  for (int b = 0; b < blocks; b++) {
    start(one, threads);
    while (advance(one, backwards ? blocks - 1 - b : b, threads)) {}
  }
}

// All blocks at once, as a cooperative launch has them.
static void launch_together(int blocks, int threads, std::function<void()> f) {
  static std::vector<BlockOfThreads *> all;
  while ((int)all.size() < blocks) {
    all.push_back(new BlockOfThreads);
    all.back()->shared = (unsigned char *)malloc(kSharedBytes);
  }
  body = f;
  blockDim.x = threads;
  gridDim.x = blocks;
  current = nullptr;
  for (int b = 0; b < blocks; b++) start(*all[b], threads);
  for (bool more = true; more;) {
    const long long before = progress;
    more = false;
    for (int b = 0; b < blocks; b++) more |= advance(*all[b], b, threads);
    if (more && progress == before) { fprintf(stderr, "all threads wait\n"); abort(); }
  }
}
