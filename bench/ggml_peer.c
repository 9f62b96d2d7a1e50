// Times ggml's scan, convolution and products on the shapes of bench/kernels. Built
// by bench/mamba.py against the headers and libraries of llama.cpp.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ggml-cpu.h"
#include "ggml.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct ggml_context *ctx;
static int threads;
static double seconds;

static struct ggml_tensor *normal(struct ggml_tensor *t) {
    float *p = t->data;
    for (int64_t i = 0; i < ggml_nelements(t); i++) p[i] = (float)rand() / RAND_MAX - 0.5f;
    return t;
}

static void run(const char *name, struct ggml_tensor *out) {
    struct ggml_cgraph *g = ggml_new_graph(ctx);
    ggml_build_forward_expand(g, out);
    struct ggml_threadpool_params tpp = ggml_threadpool_params_default(threads);
    struct ggml_threadpool *tp = ggml_threadpool_new(&tpp);
    struct ggml_cplan plan = ggml_graph_plan(g, threads, tp);
    plan.work_data = plan.work_size ? malloc(plan.work_size) : NULL;
    static double took[1 << 20];
    int n = 0;
    ggml_graph_compute(g, &plan);
    for (double start = now(); n < 3 || (now() - start < seconds && n < 1 << 20); n++) {
        double t = now();
        ggml_graph_compute(g, &plan);
        took[n] = now() - t;
    }
    qsort(took, n, sizeof *took, compare);
    printf("{\"case\": \"%s\", \"best\": %.9g, \"median\": %.9g, \"runs\": %d}\n", name, took[0], took[n / 2], n);
    fflush(stdout);
    free(plan.work_data);
    ggml_threadpool_free(tp);
}

static void begin(void) {
    if (ctx) ggml_free(ctx);
    struct ggml_init_params p = {(size_t)1 << 30, NULL, false};
    ctx = ggml_init(p);
}

static void scan(const char *name, int n, int p, int h, int l, int perState) {
    begin();
    struct ggml_tensor *s = normal(ggml_new_tensor_4d(ctx, GGML_TYPE_F32, n, p, h, 1));
    struct ggml_tensor *x = normal(ggml_new_tensor_4d(ctx, GGML_TYPE_F32, p, h, l, 1));
    struct ggml_tensor *dt = normal(ggml_new_tensor_3d(ctx, GGML_TYPE_F32, h, l, 1));
    struct ggml_tensor *a = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, perState ? n : 1, h);
    for (int64_t i = 0; i < ggml_nelements(a); i++) ((float *)a->data)[i] = -1 - (float)(i % 16);
    struct ggml_tensor *b = normal(ggml_new_tensor_4d(ctx, GGML_TYPE_F32, n, 1, l, 1));
    struct ggml_tensor *c = normal(ggml_new_tensor_4d(ctx, GGML_TYPE_F32, n, 1, l, 1));
    struct ggml_tensor *ids = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 1);
    *(int32_t *)ids->data = 0;
    run(name, ggml_ssm_scan(ctx, s, x, dt, a, b, c, ids, 1));
}

int main(int argc, char **argv) {
    threads = argc > 1 ? atoi(argv[1]) : 2;
    seconds = argc > 2 ? atof(argv[2]) : 0.25;
    ggml_cpu_init();
    scan("ssd L=1", 128, 64, 24, 1, 0);
    scan("ssd L=512", 128, 64, 24, 512, 0);
    scan("ssd L=2048", 128, 64, 24, 2048, 0);
    scan("selective scan L=2048", 16, 1, 1536, 2048, 1);
    begin();
    struct ggml_tensor *x = normal(ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 2048 + 3, 1792, 1));
    struct ggml_tensor *w = normal(ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 4, 1792));
    run("conv L=2048", ggml_ssm_conv(ctx, x, w));
    return 0;
}
