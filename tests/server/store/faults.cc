#include "tests/server/store/faults.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace lockstep::faults {
namespace {

bool armed = false;
bool met = false;
bool rest_fails = false;  // of a write that was cut short
int countdown = -1;       // operations before the one that fails; -1: none does
Kind fault = Kind::kError;
bool all_after = false;  // fail, too
int write_error = 0;
int syncs = 0;

bool IsNext() {
  if (!armed || countdown < 0) return false;
  if (countdown > 0) {
    --countdown;
    return false;
  }
  if (!all_after) countdown = -1;
  met = true;
  return true;
}

int Fail(int error) {
  errno = error;
  return -1;
}

// `operation` is a system call.
template <typename Operation>
auto Run(Operation operation) -> decltype(operation()) {
  if (!IsNext()) return operation();
  if (fault == Kind::kErrorAfter) operation();
  return Fail(EIO);
}

void CountSync() { syncs += armed; }

ssize_t Write(int fd, const void* data, size_t size, off_t offset) {
  if (armed && (write_error != 0 || rest_fails)) {
    met = true;
    return Fail(std::exchange(rest_fails, false) ? EIO : write_error);
  }
  if (!IsNext()) return syscall(SYS_pwrite64, fd, data, size, offset);
  if (fault == Kind::kErrorAfter) syscall(SYS_pwrite64, fd, data, size, offset);
  if (fault != Kind::kCutShort || size < 2) return Fail(EIO);
  rest_fails = true;
  return syscall(SYS_pwrite64, fd, data, size / 2, offset);
}

void Begin() {
  armed = true;
  met = false;
  rest_fails = false;
  countdown = -1;
  all_after = false;
  write_error = 0;
  syncs = 0;
}

}  // namespace

void FailOnce(int index, Kind kind) {
  Begin();
  countdown = index;
  fault = kind;
}

void FailFrom(int index) {
  FailOnce(index, Kind::kCutShort);
  all_after = true;
}

void FailWrites(int error) {
  Begin();
  write_error = error;
}

void Watch() { Begin(); }

int Syncs() { return syncs; }

bool Stop() {
  armed = false;
  return met;
}

}  // namespace lockstep::faults

using lockstep::faults::Run;

extern "C" {

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return lockstep::faults::Write(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  return lockstep::faults::Write(fd, data, size, offset);
}
int ftruncate(int fd, off_t size) noexcept {
  return Run([=] { return static_cast<int>(syscall(SYS_ftruncate, fd, size)); });
}
int ftruncate64(int fd, off64_t size) noexcept { return ftruncate(fd, size); }
int fsync(int) {
  lockstep::faults::CountSync();
  return Run([] { return 0; });
}
int fdatasync(int) {
  lockstep::faults::CountSync();
  return Run([] { return 0; });
}
int rename(const char* from, const char* to) noexcept {
  return Run([=] { return static_cast<int>(syscall(SYS_rename, from, to)); });
}
// A file whose close(2) fails is closed all the same.
int close(int fd) {
  const int result = static_cast<int>(syscall(SYS_close, fd));
  return lockstep::faults::IsNext() ? lockstep::faults::Fail(EIO) : result;
}

}  // extern "C"
