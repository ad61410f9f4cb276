#ifndef LOCKSTEP_SERVER_STORE_SQLITE_H_
#define LOCKSTEP_SERVER_STORE_SQLITE_H_

#include <sqlite3.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The little of SQLite's C API that the store uses, as values. Not thread-safe. Errors: a key that
// is taken is ALREADY_EXISTS, a reference to nothing NOT_FOUND, a full disk RESOURCE_EXHAUSTED, an
// I/O error, a read-only file or somebody else's lock UNAVAILABLE, a damaged file DATA_LOSS.
namespace lockstep {

// A prepared statement; lives as long as its database's connection at most.
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  // Parameters count from 1, columns from 0, as in SQLite.
  Statement& Bind(int parameter, int64_t value);
  Statement& Bind(int parameter, std::string_view text);
  Statement& BindBlob(int parameter, std::string_view bytes);

  // True: there is a row to be read. After the last row, or an error, it is ready for use again.
  absl::StatusOr<bool> Step();
  // For statements without rows.
  absl::Status Run();
  // For one that changes at most one row and has RETURNING with a number; nothing if there is no
  // such row.
  absl::StatusOr<std::optional<int64_t>> RunReturning();
  // Ends a reading before its last row.
  void Reset();

  int64_t Int(int column) const;
  std::string Bytes(int column) const;

 private:
  friend class Database;
  sqlite3_stmt* handle_ = nullptr;
};

class Database {
 public:
  static absl::StatusOr<Database> Open(const std::string& path);
  Database(Database&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Database& operator=(Database&&) = delete;
  ~Database();

  // One or more statements without parameters.
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<Statement> Prepare(std::string_view sql);

 private:
  explicit Database(sqlite3* handle) : handle_(handle) {}
  sqlite3* handle_;
};

// Rolled back unless committed.
class Transaction {
 public:
  explicit Transaction(Database& database) : database_(database) {}
  Transaction(const Transaction&) = delete;
  ~Transaction();

  // Takes the write lock at once, so that nothing read in between can change.
  absl::Status Begin();
  absl::Status Commit();

 private:
  Database& database_;
  bool open_ = false;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_SQLITE_H_
