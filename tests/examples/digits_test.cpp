// SPDX-License-Identifier: Apache-2.0
// The MNIST files as the examples read them.
#include "support/digits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "support/idx_files.h"
#include "support/temp_dir.h"

namespace tests::digits_test {
namespace {

using torch_accelerated::testing::Bytes;
using torch_accelerated::testing::idx_header;
using torch_accelerated::testing::TempDir;

constexpr std::uint32_t kImages = 2'040;
constexpr std::int64_t kPixels = 784;

// The first two tell which image it is; none of the others is bright or dark throughout.
std::uint8_t pixel(std::int64_t image, std::int64_t at) {
  if (at == 0) return static_cast<std::uint8_t>(image / 256);
  if (at == 1) return static_cast<std::uint8_t>(image % 256);
  return static_cast<std::uint8_t>((7 * image + at) % 256);
}

void write(const std::filesystem::path& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void write_test_pair(const std::filesystem::path& directory) {
  Bytes images = idx_header(std::vector<std::uint32_t>{kImages, 28, 28});
  Bytes labels = idx_header(std::vector<std::uint32_t>{kImages});
  for (std::int64_t image = 0; image < kImages; ++image) {
    for (std::int64_t at = 0; at < kPixels; ++at) images.push_back(pixel(image, at));
    labels.push_back(static_cast<std::uint8_t>(image % 10));
  }
  write(directory / "t10k-images-idx3-ubyte", images);
  write(directory / "t10k-labels-idx1-ubyte", labels);
}

torch_accelerated::Batch whole(const torch_accelerated::Dataset& dataset) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(dataset.size()));
  std::iota(indices.begin(), indices.end(), 0);
  return dataset.get_batch(indices);
}

TEST(Digits, AreTheFilesPixelsDividedBy255AndNoMore) {
  const TempDir folder;
  write_test_pair(folder.path());
  const auto digits = examples::load_digits(folder.path(), 0);
  std::vector<bool> seen(kImages, false);
  for (const auto& part : {digits.train, digits.eval, digits.test}) {
    const auto batch = whole(part);
    ASSERT_EQ(batch["data"].scalar_type(), torch::kFloat32);
    ASSERT_EQ(batch["data"].size(1), kPixels);
    ASSERT_EQ(batch["target"].scalar_type(), torch::kInt64);
    const auto data = batch["data"].accessor<float, 2>();
    const auto target = batch["target"].accessor<std::int64_t, 1>();
    for (std::int64_t row = 0; row < data.size(0); ++row) {
      const auto image = std::lround(data[row][0] * 255) * 256 + std::lround(data[row][1] * 255);
      ASSERT_TRUE(image >= 0 && image < kImages) << image;
      EXPECT_FALSE(seen[static_cast<std::size_t>(image)]) << image << " is there twice";
      seen[static_cast<std::size_t>(image)] = true;
      EXPECT_EQ(target[row], image % 10);
      for (std::int64_t at = 0; at < kPixels; ++at) {
        ASSERT_EQ(data[row][at], static_cast<float>(pixel(image, at)) / 255) << image;
      }
    }
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), kImages);
}

TEST(Digits, OfTheTestPairAloneHoldAThousandTwiceOut) {
  const TempDir folder;
  write_test_pair(folder.path());
  const auto digits = examples::load_digits(folder.path(), 0);
  EXPECT_EQ(digits.train.size(), kImages - 2'000);
  EXPECT_EQ(digits.eval.size(), 1'000);
  EXPECT_EQ(digits.test.size(), 1'000);
}

}  // namespace
}  // namespace tests::digits_test
