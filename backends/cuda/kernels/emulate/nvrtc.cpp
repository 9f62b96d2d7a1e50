// An NVRTC that compiles for the emulated driver: g++ makes a library of the kernel, and its "machine code" is the path of it, which
// driver.cpp opens. It refuses unless SSDC_EMULATED_RTC is set, for g++ takes a second for what NVRTC does in a few milliseconds.
//   g++ -std=c++17 -O2 -fPIC -shared -DSSDC_KERNELS=\"FOLDER\" nvrtc.cpp -o libnvrtc_emulated.so
// FOLDER is that of the kernels' sources.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <unistd.h>

struct Program {
  std::string source, image;
};

#define API extern "C" __attribute__((visibility("default"))) int

API nvrtcVersion(int *major, int *minor) { *major = 12, *minor = 8; return 0; }
API nvrtcCreateProgram(Program **p, const char *source, const char *, int, const char **, const char **) {
  *p = new Program{source};
  return 0;
}
API nvrtcDestroyProgram(Program **p) { delete *p; return 0; }
API nvrtcCompileProgram(Program *p, int, const char **) {
  if (!getenv("SSDC_EMULATED_RTC")) return 6;
  char name[] = "/tmp/ssdc-chain-XXXXXX";
  const int file = mkstemp(name);
  if (file < 0) return 6;
  close(file);
  const std::string text = std::string(name) + ".cpp";
  std::ofstream(text) << p->source;
  const int failed = system(("g++ -std=c++17 -O1 -w -fPIC -shared -DSSDC_EMULATE -I" SSDC_KERNELS " " + text + " -o " + name).c_str());
  unlink(text.c_str());
  p->image = std::string(name) + '\0';
  return failed ? 6 : 0;
}
API nvrtcGetCUBINSize(Program *p, size_t *n) { *n = p->image.size(); return 0; }
API nvrtcGetCUBIN(Program *p, char *to) { memcpy(to, p->image.data(), p->image.size()); return 0; }
API nvrtcGetPTXSize(Program *, size_t *) { return 6; }
API nvrtcGetPTX(Program *, char *) { return 6; }
API nvrtcGetProgramLogSize(Program *, size_t *n) { *n = 1; return 0; }
API nvrtcGetProgramLog(Program *, char *to) { *to = 0; return 0; }
