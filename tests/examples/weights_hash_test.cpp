// SPDX-License-Identifier: Apache-2.0
#include "support/weights_hash.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

namespace tests::weights_hash_test {
namespace {

// Registered in another order than that of the names; parameters and buffers take turns in it.
struct InnerImpl : torch::nn::Module {
  InnerImpl() {
    // In memory by columns, as (3, 2).
    register_parameter("weight", torch::tensor({{1.0F, 2.0F, 3.0F}, {4.0F, 5.0F, 6.25F}}).t());
    register_buffer("count", torch::tensor({3L, -(1L << 40)}, torch::kInt64));
  }
};
TORCH_MODULE(Inner);

struct OuterImpl : torch::nn::Module {
  explicit OuterImpl(float first = -1.0F) {
    register_parameter("z", torch::tensor({first, 0.5F}));
    register_parameter("b0", torch::tensor({0.1, -2.5, 1e300}, torch::kFloat64));
    register_module("b", Inner());
    register_buffer("a", torch::tensor({1, -2, 300}, torch::kInt16));
  }
};
TORCH_MODULE(Outer);

// Of a, b.count, b.weight, b0 and z, in Python: sha256(b"".join([
//     pack("<3h", 1, -2, 300), pack("<2q", 3, -(2**40)), pack("<6f", 1, 4, 2, 5, 3, 6.25),
//     pack("<3d", 0.1, -2.5, 1e300), pack("<2f", -1, 0.5)])).hexdigest()
TEST(WeightsHash, IsOfTheRawBytesOfParametersAndBuffersSortedByName) {
  EXPECT_EQ(examples::weights_sha256(*Outer()),
            "7f34f658fa99af7e6c2cb0e3779bf803fed70301593b03c8d2408ac1c0e25872");
}

TEST(WeightsHash, IsAnotherForAnyOtherBit) {
  EXPECT_NE(examples::weights_sha256(*Outer(std::nextafter(-1.0F, 0.0F))),
            examples::weights_sha256(*Outer()));
}

}  // namespace
}  // namespace tests::weights_hash_test
