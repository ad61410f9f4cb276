#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/formats/readers.h"
#include "tests/core/formats/hostile.h"

namespace lockstep {
namespace {

using Names = std::vector<std::string>;

std::string CsvRefusal(std::string_view file, const CsvOptions& options = {}) {
  return Refusal(ReadCsv(file, options));
}

TEST(CsvTest, ReadsNumbersCategoriesAndClasses) {
  absl::StatusOr<CsvTable> table = ReadCsv(
      "age,colour,weight,kind\n"
      "1,red,0.5,dog\n"
      "2, blue ,-1e3,cat\n"
      "3,\"red\",+2,dog\n",
      {});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->feature_names, (Names{"age", "colour=blue", "colour=red", "weight"}));
  EXPECT_EQ(table->class_names, (Names{"cat", "dog"}));
  EXPECT_EQ(table->x.dtype, DType::kFloat32);
  EXPECT_EQ(table->x.shape, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(Values<float>(table->x),
            (std::vector<float>{1, 0, 1, 0.5f, 2, 1, 0, -1000, 3, 0, 1, 2}));
  EXPECT_EQ(table->y.dtype, DType::kInt64);
  EXPECT_EQ(table->y.shape, std::vector<int64_t>{3});
  EXPECT_EQ(Values<int64_t>(table->y), (std::vector<int64_t>{1, 0, 1}));
}

TEST(CsvTest, WithoutHeaderColumnsHaveNumbers) {
  absl::StatusOr<CsvTable> table = ReadCsv("7,1,a\r\n9,2,b", {.label_column = "0"});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->feature_names, (Names{"column 1", "column 2=a", "column 2=b"}));
  EXPECT_EQ(table->class_names, (Names{"7", "9"}));
  EXPECT_EQ(Values<int64_t>(table->y), (std::vector<int64_t>{0, 1}));
}

TEST(CsvTest, NumericClassesAreInNumericOrder) {
  absl::StatusOr<CsvTable> table = ReadCsv("1,10\n1,9\n1,1\n1,9.0\n", {});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->class_names, (Names{"1", "9", "10"}));
  EXPECT_EQ(Values<int64_t>(table->y), (std::vector<int64_t>{2, 1, 0, 1}));
}

TEST(CsvTest, RegressionTargetsStayNumbers) {
  absl::StatusOr<CsvTable> table =
      ReadCsv("price,rooms\n1.25,3\n2,4\n", {.label_column = "price", .regression = true});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->y.dtype, DType::kFloat32);
  EXPECT_EQ(table->y.shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(Values<float>(table->y), (std::vector<float>{1.25f, 2}));
  EXPECT_TRUE(table->class_names.empty());
}

TEST(CsvTest, QuotesProtectCommasLineEndsAndQuotes) {
  absl::StatusOr<CsvTable> table =
      ReadCsv("\xef\xbb\xbf\"a,b\",label\n\n1,\"x\"\"y\nz\"\n2,w\n", {});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->feature_names, Names{"a,b"});
  EXPECT_EQ(table->class_names, (Names{"w", "x\"y\nz"}));
}

TEST(CsvTest, MissingValuesNameRowAndColumn) {
  for (const char* missing : {"", "NA", "nan", "NaN", "?", " "}) {
    const std::string file = absl::StrCat("age,kind\n1,dog\n", missing, ",cat\n");
    EXPECT_TRUE(
        absl::StrContains(CsvRefusal(file), "csv: row 3, column 1 (\"age\"): missing value"))
        << missing << ": " << CsvRefusal(file);
  }
  EXPECT_TRUE(absl::StrContains(CsvRefusal("1,2\n3,\n"), "csv: row 2, column 2: missing value"));
}

TEST(CsvTest, RefusalsNameRowAndColumn) {
  EXPECT_EQ(CsvRefusal("a,b\n1,2\n1,2,3\n"), "csv: row 3 has 3 columns, the rows before it have 2");
  EXPECT_EQ(CsvRefusal("a,b\n1,\"2\n"), "csv: row 2, column 2: a quote is never closed");
  EXPECT_EQ(CsvRefusal("a,b\n\"1\"x,2\n"), "csv: row 2, column 1: text after a closing quote");
  EXPECT_EQ(CsvRefusal("a,b\n1\"x,2\n"),
            "csv: row 2, column 1: a quote or a zero byte inside a cell, \"1\\\"x\"");
  EXPECT_EQ(CsvRefusal("a,b\n1e99,2\n"),
            "csv: row 2, column 1 (\"a\"): \"1e99\" is not a finite float32");
  EXPECT_EQ(CsvRefusal("a,b\ninf,2\n"),
            "csv: row 2, column 1 (\"a\"): \"inf\" is not a finite float32");
  EXPECT_EQ(CsvRefusal("a,b\n1,0.5\n"),
            "csv: row 2, column 2 (\"b\"): \"0.5\" is not a class; ask for regression to predict "
            "numbers");
  EXPECT_EQ(CsvRefusal("a,b\n1,2\n3,x\n", {.label_column = "b", .regression = true}),
            "csv: row 3, column 2 (\"b\"): \"x\" is not a number, as regression needs");
  // A quoted line end and a blank line count as an editor counts them.
  EXPECT_EQ(CsvRefusal("a,b\n\"x\ny\",1\n\n1\n"),
            "csv: row 5 has 1 columns, the rows before it have 2");
}

TEST(CsvTest, FilesWithoutATableAreRefused) {
  EXPECT_EQ(CsvRefusal(""), "csv: the file holds no rows");
  EXPECT_EQ(CsvRefusal("\n\r\n\n"), "csv: the file holds no rows");
  EXPECT_EQ(CsvRefusal("a,b\n"), "csv: the file holds a header but no rows");
  EXPECT_EQ(CsvRefusal("1\n2\n"), "csv: the only column is the label: there are no features");
  EXPECT_EQ(CsvRefusal("a,b\n1,2\n", {.label_column = "c"}),
            "csv: label column \"c\" is not in the header");
  EXPECT_EQ(CsvRefusal("a,a\n1,2\n", {.label_column = "a"}),
            "csv: label column \"a\" is in the header twice");
  EXPECT_EQ(CsvRefusal("1,2\n", {.label_column = "2"}),
            "csv: label column \"2\": the file has no header, so a number from 0 to 1 is needed");
}

// One-hot encoding n different words takes n*n numbers: a small file could ask for any memory.
TEST(CsvTest, FreeTextColumnsAreRefused) {
  std::string file = "id,label\n";
  for (int i = 0; i < 1001; ++i) absl::StrAppend(&file, "word", i, ",", i % 2, "\n");
  EXPECT_TRUE(absl::StrContains(CsvRefusal(file),
                                "column 1 (\"id\") holds 1001 different words, at most 1000"));
}

TEST(CsvTest, DamagedFilesDoNoHarm) {
  const auto read = [](std::string_view file) { return ReadCsv(file, {}); };
  const std::string file = "age,\"colour\",kind\r\n1,red,dog\r\n2.5,\"bl\"\"ue\",cat\r\n";
  ASSERT_TRUE(read(file).ok());
  EXPECT_GT(RefusedAmongDamaged(file, read), 0);
  // A table that ends early can still be one, so prefixes are only read, not refused.
  for (size_t size = 0; size < file.size(); ++size) {
    const ExactCopy prefix(std::string_view(file).substr(0, size));
    (void)read(prefix.view());
  }
}

}  // namespace
}  // namespace lockstep
