// A file layer that fails on purpose: preloaded (LD_PRELOAD) into a program that knows nothing of
// it, in its libraries, too. Of the program's operations on files and directories below a directory
// it counts each kind, and lets one of them fail. Sockets, pipes and all other files are left
// alone.
//
//   LOCKSTEP_FAULT_PROGRAM  "serve" or "work": acts only in processes with this first argument
//   LOCKSTEP_FAULT_DIR      the directory, its real path
//   LOCKSTEP_FAULT_REPORT   a file of kKinds + 1 zeros of 64 bits, which all these processes share,
//   also
//                           one after the other: the calls of each kind, then how many met the
//                           fault
//   LOCKSTEP_FAULT          "KIND:N:HOW", the N-th call of a kind (from 1); without it none fails.
//   HOW:
//                             EIO, ENOSPC  nothing is done (but a file is closed), and it fails
//                             short        of a write only the first half is done, which it says

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

enum Kind {
  kWrite,
  kPwrite,
  kWritev,
  kFsync,
  kFdatasync,
  kRename,
  kTruncate,
  kClose,
  kOpen,
  kUnlink
};
// In the order of Kind; test_file_faults.py has the same.
constexpr const char* kNames[] = {"write",  "pwrite",    "writev", "fsync", "fdatasync",
                                  "rename", "ftruncate", "close",  "open",  "unlink"};
constexpr int kKinds = 10;

struct Report {
  std::atomic<int64_t> calls[kKinds];
  std::atomic<int64_t> met;
};

const char* directory = nullptr;
size_t directory_length = 0;
Report* report = nullptr;  // null: nothing is counted and nothing fails
int fault_kind = -1;
int64_t fault_call = 0;
int fault_error = 0;  // 0: cut short

void ParseFault(const char* fault) {
  char kind[16] = "";
  char how[16] = "";
  long long call = 0;
  if (sscanf(fault, "%15[^:]:%lld:%15s", kind, &call, how) != 3) abort();
  for (int i = 0; i < kKinds; ++i) {
    if (strcmp(kind, kNames[i]) == 0) fault_kind = i;
  }
  fault_call = call;
  fault_error = strcmp(how, "EIO") == 0 ? EIO : strcmp(how, "ENOSPC") == 0 ? ENOSPC : 0;
  if (fault_kind < 0 || (fault_error == 0 && strcmp(how, "short") != 0)) abort();
}

__attribute__((constructor)) void Begin(int argc, char** argv, char**) {
  const char* program = getenv("LOCKSTEP_FAULT_PROGRAM");
  const char* path = getenv("LOCKSTEP_FAULT_REPORT");
  const char* fault = getenv("LOCKSTEP_FAULT");
  directory = getenv("LOCKSTEP_FAULT_DIR");
  if (!program || !path || !directory || argc < 2 || strcmp(argv[1], program) != 0) return;
  directory_length = strlen(directory);
  if (fault != nullptr) ParseFault(fault);
  const int fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC));
  if (fd < 0) abort();
  void* shared = mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) abort();
  syscall(SYS_close, fd);
  report = static_cast<Report*>(shared);
}

bool IsBelow(const char* path) {
  return strncmp(path, directory, directory_length) == 0 &&
         (path[directory_length] == '/' || path[directory_length] == '\0');
}

bool IsOurs(int fd) {
  struct stat status;
  if (report == nullptr || fstat(fd, &status) != 0) return false;
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return false;
  char link[32];
  char path[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof(path) - 1);
  if (length < 0) return false;
  path[length] = '\0';
  return IsBelow(path);
}

bool IsOurs(const char* path) { return report != nullptr && IsBelow(path); }

// Counts a call on a file of ours; whether it is the one to fail.
bool IsDue(Kind kind) {
  const int64_t call = ++report->calls[kind];
  if (kind != fault_kind || call != fault_call) return false;
  ++report->met;
  return true;
}

int Fail() {
  errno = fault_error != 0 ? fault_error : EIO;
  return -1;
}

template <typename File, typename... Arguments>
int Run(Kind kind, File file, long number, Arguments... arguments) {
  const int saved = errno;
  const bool due = IsOurs(file) && IsDue(kind);
  errno = saved;
  return due ? Fail() : static_cast<int>(syscall(number, arguments...));
}

// A write of `size` bytes that `operation(n)` does the first n bytes of.
template <typename Operation>
ssize_t Write(Kind kind, int fd, size_t size, Operation operation) {
  const int saved = errno;
  const bool due = IsOurs(fd) && IsDue(kind);
  errno = saved;
  if (!due) return operation(size);
  return fault_error == 0 && size > 1 ? operation(size / 2) : Fail();
}

// Whether opening a file may make one. Only that takes room, and counts.
bool Makes(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

int Open(const char* path, int flags, mode_t mode) {
  const bool due = Makes(flags) && IsOurs(path) && IsDue(kOpen);
  return due ? Fail() : static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

mode_t ModeOf(int flags, va_list arguments) { return Makes(flags) ? va_arg(arguments, mode_t) : 0; }

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t size) {
  return Write(kWrite, fd, size, [=](size_t n) { return syscall(SYS_write, fd, data, n); });
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return Write(kPwrite, fd, size,
               [=](size_t n) { return syscall(SYS_pwrite64, fd, data, n, offset); });
}

ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  return pwrite(fd, data, size, offset);
}

ssize_t writev(int fd, const iovec* parts, int count) {
  size_t size = 0;
  for (int i = 0; i < count; ++i) size += parts[i].iov_len;
  return Write(kWritev, fd, size, [=](size_t n) {
    if (n == size) return syscall(SYS_writev, fd, parts, count);
    return syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2);
  });
}

int fsync(int fd) { return Run(kFsync, fd, SYS_fsync, fd); }

int fdatasync(int fd) { return Run(kFdatasync, fd, SYS_fdatasync, fd); }

int rename(const char* from, const char* to) noexcept {
  return Run(kRename, to, SYS_rename, from, to);
}

int ftruncate(int fd, off_t size) noexcept { return Run(kTruncate, fd, SYS_ftruncate, fd, size); }

int ftruncate64(int fd, off64_t size) noexcept { return ftruncate(fd, size); }

int unlink(const char* path) noexcept { return Run(kUnlink, path, SYS_unlink, path); }

// A file whose close(2) fails is closed all the same.
int close(int fd) {
  const bool due = IsOurs(fd) && IsDue(kClose);
  const int result = static_cast<int>(syscall(SYS_close, fd));
  return due ? Fail() : result;
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(path, flags, mode);
}

}  // extern "C"
