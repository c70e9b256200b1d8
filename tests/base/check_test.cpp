// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/check.h"

#include <gtest/gtest.h>

#include <string>

#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

TEST(OptionCheck, TellsAllThatIsWrongAtOnce) {
  OptionCheck check("train");
  check.require(true, "fine").require(false, "a is 0").require(false, "b is 1");
  try {
    check.throw_if_any();
    FAIL() << "nothing was thrown";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "train: a is 0 | b is 1");
  }
}

TEST(OptionCheck, IsSilentWhenNothingIsWrong) {
  EXPECT_NO_THROW(OptionCheck("train").require(true, "fine").throw_if_any());
}

TEST(Error, KnowsWhereItWasMade) {
  const ArgumentError error("no");
  EXPECT_NE(std::string(error.place().file_name()).find("check_test.cpp"), std::string::npos);
  EXPECT_GT(error.place().line(), 0U);
}

}  // namespace
}  // namespace torch_accelerated
