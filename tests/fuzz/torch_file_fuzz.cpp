// SPDX-License-Identifier: Apache-2.0
//
// The checks that libFuzzer and the tests' own mutations make of files of torch.save. To fuzz:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests
//       -Dfuzz_torch_file=LLVMFuzzerTestOneInput tests/fuzz/torch_file_fuzz.cpp
//       src/checkpoint/{pickle_cursor,pickle_globals,pickle_machine,pickle_opcodes}.cpp
//       src/checkpoint/{pickle_rebuild,pickle_stack,safetensors_dtype,state_dict_pickle}.cpp
//       src/checkpoint/{stored_zip,strided_copy,torch_file}.cpp src/base/error.cpp -lz
//   ./a.out -max_len=8192 -rss_limit_mb=512 -malloc_limit_mb=64 tests/checkpoint/golden
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/torch_file.h"
#include "support/torch_files.h"
#include "torch_accelerated/base/error.h"

namespace {

using torch_accelerated::SafetensorsDtype;
using torch_accelerated::TorchFile;
using torch_accelerated::TorchFileTensor;

// Values come in exactly the bytes that the tensor says, for a sanitizer to see.
void copy_all(const TorchFile& file) {
  std::uint64_t left = std::uint64_t{1} << 20;
  for (const TorchFileTensor& tensor : file.tensors()) {
    if (torch_accelerated::safetensors_bytes(tensor.dtype, tensor.shape) != tensor.bytes) {
      __builtin_trap();
    }
    if (tensor.bytes > left) continue;
    left -= tensor.bytes;
    std::vector<unsigned char> values(static_cast<std::size_t>(tensor.bytes), 0xAA);
    file.copy(tensor, values.data());
    const bool is_bool = tensor.dtype == SafetensorsDtype::kBool;
    if (is_bool && std::any_of(values.begin(), values.end(), [](int v) { return v > 1; })) {
      __builtin_trap();
    }
  }
}

void read(std::string_view bytes, std::string_view key) {
  try {
    copy_all(TorchFile(bytes, "fuzz", key));
  } catch (const torch_accelerated::DataError& error) {  // the only one that bytes may end in
    if (error.what()[0] == '\0') __builtin_trap();
  }
}

}  // namespace

// Reads the bytes as a file and, as checksums stop most changes there, as the pickle in one.
extern "C" int fuzz_torch_file(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const std::string storage = "0123456789ABCDEFGHIJKLMN";
  const std::string around =
      torch_accelerated::testing::torch_archive(bytes, {storage, storage, storage});
  for (std::string_view key : {"", "model_state"}) {
    read(bytes, key);
    read(around, key);
  }
  return 0;
}
