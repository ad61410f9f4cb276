#ifndef LOCKSTEP_TESTS_SERVER_STORE_FAULTS_H_
#define LOCKSTEP_TESTS_SERVER_STORE_FAULTS_H_

// Makes the C library's file operations fail, in this program and in SQLite: pwrite, ftruncate,
// fsync, fdatasync, rename and close are replaced in every test program that links faults.cc. Syncs
// never wait for a disk there: no test pulls the plug. One fault plan at a time; for one thread.
namespace lockstep::faults {

enum class Kind {
  kError,       // the operation does nothing and fails
  kCutShort,    // a write does its first half and the rest of it fails; others as kError
  kErrorAfter,  // the operation is done, but says that it failed
};

// From now on the operation number `index` (from 0) fails once with EIO.
void FailOnce(int index, Kind kind);
// From now on the operations from number `index` on fail with EIO; the first is cut short.
void FailFrom(int index);
// From now on every operation that takes room fails with `error`.
void FailWrites(int error);
// Nothing fails.
void Watch();
// Ends the plan. True: a fault was met.
bool Stop();
// How often fsync or fdatasync was called while the last plan held.
int Syncs();

}  // namespace lockstep::faults

#endif  // LOCKSTEP_TESTS_SERVER_STORE_FAULTS_H_
