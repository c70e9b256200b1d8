// SPDX-License-Identifier: Apache-2.0
#include "support/digits.h"

#include <torch_accelerated/data/idx.h>

#include "support/rendered_digits.h"

namespace examples {
namespace {

namespace ta = torch_accelerated;

constexpr std::int64_t kSide = 28;  // pixels of an image

torch::Tensor bytes_tensor(const std::vector<std::uint8_t>& bytes,
                           std::vector<std::int64_t> shape) {
  return torch::tensor(bytes, torch::kUInt8).reshape(shape);
}

// The file called `name`, plain or with .gz behind it.
std::optional<std::filesystem::path> find_file(const std::filesystem::path& directory,
                                               const std::string& name) {
  for (const char* ending : {"", ".gz"}) {
    auto path = directory / (name + ending);
    if (std::filesystem::exists(path)) return path;
  }
  return std::nullopt;
}

std::optional<DigitDataset> read_pair(const std::filesystem::path& directory,
                                      const std::string& prefix) {
  const auto images = find_file(directory, prefix + "-images-idx3-ubyte");
  const auto labels = find_file(directory, prefix + "-labels-idx1-ubyte");
  if (!images || !labels) return std::nullopt;
  const auto files = ta::read_labeled_images(*images, *labels);
  if (files.images.shape[1] != kSide || files.images.shape[2] != kSide) {
    throw ta::DataError("mnist: the images in " + images->string() + " are " +
                        std::to_string(files.images.shape[1]) + " x " +
                        std::to_string(files.images.shape[2]) + " pixels; 28 x 28 are wanted");
  }
  return DigitDataset(bytes_tensor(files.images.values, {files.images.shape[0], kSide * kSide}),
                      bytes_tensor(files.labels.values, {files.labels.shape[0]}));
}

DigitDataset render(std::uint64_t seed) {
  const auto digits = render_digits(70'000, seed);
  return {bytes_tensor(digits.pixels, {digits.count, kSide * kSide}),
          bytes_tensor(digits.labels, {digits.count})};
}

DigitSplits split(const ta::Dataset& all, std::int64_t held_out, std::uint64_t seed,
                  std::string source) {
  const auto parts = ta::random_split(all, {all.size() - 2 * held_out, held_out, held_out}, seed);
  return {parts[0], parts[1], parts[2], std::move(source)};
}

}  // namespace

ta::Batch DigitDataset::get_batch(std::span<const std::int64_t> indices,
                                  const ta::SampleContext&) const {
  const auto rows = torch::from_blob(const_cast<std::int64_t*>(indices.data()),
                                     {static_cast<std::int64_t>(indices.size())}, torch::kInt64);
  return {{"data", pixels_.index_select(0, rows).to(torch::kFloat32).div_(255)},
          {"target", labels_.index_select(0, rows)}};
}

DigitSplits load_digits(const std::optional<std::filesystem::path>& directory, std::uint64_t seed) {
  if (!directory) return split(render(seed), 5'000, seed, "digits rendered by this program");
  if (auto train = read_pair(*directory, "train")) {
    return split(*train, 5'000, seed, "MNIST's training images");
  }
  if (auto test = read_pair(*directory, "t10k")) {
    return split(*test, 1'000, seed, "MNIST's test images");
  }
  throw ta::ArgumentError("mnist: " + directory->string() +
                          " has neither train-images-idx3-ubyte with train-labels-idx1-ubyte nor "
                          "the t10k pair, plain or .gz; put them there, or leave --data out to "
                          "train on rendered digits");
}

}  // namespace examples
