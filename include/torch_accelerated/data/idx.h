// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace torch_accelerated {

/// What an IDX file of unsigned bytes holds, the format in which MNIST is published.
struct IdxArray {
  std::vector<std::int64_t> shape;   ///< each size at least 1
  std::vector<std::uint8_t> values;  ///< row by row, the last size runs fastest
};

/// Reads a whole IDX file of unsigned bytes, plain or gzip (told by its content, not by its name).
///
/// The sizes are checked against what the file really holds before memory is taken for them.
/// @throws DataError  the file is missing, is not what it claims to be, is cut short or goes on
///                    after its data; the text names the file, the place, the value and the cure.
/// @par Source  "The IDX file format", yann.lecun.com/exdb/mnist.
IdxArray read_idx(const std::filesystem::path& path);

/// Reads an IDX file that is already in memory; errors call it `name`.
///
/// @throws DataError  as for `read_idx`.
IdxArray parse_idx(std::span<const std::uint8_t> bytes, std::string_view name);

/// Grey images and what each of them shows.
struct LabeledImages {
  IdxArray images;  ///< (count, rows, columns)
  IdxArray labels;  ///< (count), each below `num_classes`
};

/// Reads a pair of IDX files, as MNIST's, and checks that they belong together.
///
/// @throws DataError      as for `read_idx`; ranks other than 3 and 1, counts that disagree, a
/// label
///                        of `num_classes` or more.
/// @throws ArgumentError  `num_classes` is not in [1, 256].
LabeledImages read_labeled_images(const std::filesystem::path& images,
                                  const std::filesystem::path& labels,
                                  std::int64_t num_classes = 10);

}  // namespace torch_accelerated
